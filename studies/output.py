"""What the studies share: where a page goes, a dry run, and how a page says on what and by what it was made."""

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


def cpu_of(machine: dict) -> str:
    """The processor in words, with its vector instructions.

    Args:
        machine: of `fincompress.benchmark.machine.environment`.
    """
    return f"{machine['cpu']} ({', '.join(machine['vector_instructions'])})"


def with_write(command: str, write: Path | None) -> str:
    """A study's command line with its `--write`, as its page prints it."""
    return command if write is None else f"{command} --write {write}"
