"""Texts that someone pastes or uploads, scored into a CSV file: `files.score_file` within bounds, for the demo."""

import csv
import re
from pathlib import Path

from fincompress.core.errors import InputError
from fincompress.data.readers import read_rows
from fincompress.serving.classifier import TextClassifier
from fincompress.serving.duel import LONGEST
from fincompress.serving.files import score_file

ROWS = 1000
"""Texts, at most."""
COLUMN = "text"


def score_batch(classifier: TextClassifier, lines: str, upload: Path | None, folder: Path) -> Path:
    """Write the scored texts to a new file in `folder`, with the columns that `fincompress predict --output` writes.

    Args:
        lines: a text a line; blank ones are left out.
        upload: a .csv file with a column `text`, instead of lines.

    Returns:
        The file: scored.csv.

    Raises:
        InputError: there are no texts, or both kinds, or too many or too long ones, or the file cannot be used; it is
            named without its folder, which is the server's.
    """
    pasted = [line.strip() for line in re.split(r"\r\n|\r|\n", lines or "") if line.strip()]
    if pasted and upload is not None:
        raise InputError("paste lines or upload a file, not both")
    if not pasted and upload is None:
        raise InputError("paste some lines, or upload a .csv file with a column `text`")
    source = upload or _as_file(pasted, folder / "lines.csv")
    if source.suffix.lower() != ".csv":
        raise InputError(f"{source.name}: not a .csv file")
    try:
        _check(source)
        score_file(classifier, source, folder / "scored.csv", COLUMN, show_progress=False)
    except InputError as error:
        raise InputError(str(error).replace(f"{source.parent}/", "")) from None
    return folder / "scored.csv"


def preview(scored: Path, count: int = 10) -> tuple[list[str], list[list[str]], int]:
    """The columns of a scored file, its first rows, and how many it has."""
    with scored.open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    return header, rows[:count], len(rows)


def _as_file(texts: list[str], file: Path) -> Path:
    with file.open("w", encoding="utf-8", newline="") as target:
        csv.writer(target, lineterminator="\n").writerows([[COLUMN], *([text] for text in texts)])
    return file


def _check(source: Path) -> None:
    """Raise an error if there are too many rows, or one is too long."""
    for number, (where, row) in enumerate(read_rows(source), start=1):
        if number > ROWS:
            raise InputError(f"{source}: more than {ROWS:,} texts; `fincompress predict --input` scores any number")
        if (size := len(row.get(COLUMN, ""))) > LONGEST:
            raise InputError(f"{source}, {where}: a text of {size:,} characters, where {LONGEST:,} are the most")
