"""The command `fincompress`, one module per group of commands."""
