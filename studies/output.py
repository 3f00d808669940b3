"""What the studies share: where a page goes, and a dry run."""

import argparse
from pathlib import Path

from fincompress.core.files import write_text


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add `--write` and `--dry-run`."""
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file for the report; printed if absent")
    parser.add_argument("--dry-run", action="store_true", help="check options and params.yaml, and say what would run")


def publish(content: str, write: Path | None) -> None:
    """Write a page to the file that `--write` names, or print it."""
    if write is None:
        print(content)
    else:
        write_text(write, content)
