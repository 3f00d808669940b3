"""`python -m fincompress` is the command `fincompress`."""

from fincompress.cli.main import main

main()
