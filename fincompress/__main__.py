"""`python -m fincompress` is the command `fincompress`."""

from fincompress.cli import main

main()
