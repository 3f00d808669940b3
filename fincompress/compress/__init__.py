"""The compression techniques, one module each."""
