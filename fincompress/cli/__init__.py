"""The command `fincompress`, one module a group of commands."""
