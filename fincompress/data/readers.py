"""Read the user's files of texts, whether CSV, TSV, JSONL or Parquet, and name every bad row."""

import csv
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fincompress.core.errors import InputError

if TYPE_CHECKING:  # serving reads rows without either
    import pandas as pd

    from fincompress.core.sections import FilesParams

COLUMNS = ["id", "text", "label", "source", "phenomenon"]
SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")


def read_files(params: "FilesParams", key: Callable[[str], str] = "prepare.files.{}".format) -> "pd.DataFrame":
    """Read one CSV, TSV, JSONL or Parquet file of labelled texts, or every such file in a folder.

    Args:
        key: maps a parameter's name to its key in params.yaml, for errors.

    Returns:
        The columns `COLUMNS`, all strings.

    Raises:
        InputError: names the file and row that cannot be used.
    """
    import pandas as pd

    path = Path(params.path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.suffix.lower() in SUFFIXES)
        if not files:
            raise InputError(f"{path}: holds no {', '.join(SUFFIXES)} file ({key('path')})")
    elif path.is_file():
        files = [path]
    else:
        raise InputError(f"{path}: not found ({key('path')})")
    rows = [_labelled_row(file, where, row, params, key) for file in files for where, row in read_rows(file)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _labelled_row(file: Path, where: str, row: dict, params: "FilesParams", key: Callable[[str], str]) -> list[str]:
    """Pick and check the configured columns of one raw row."""
    import pandas as pd

    def value(column: str, parameter: str) -> str:
        if column not in row:
            found = ", ".join(map(str, row)) or "none"
            raise InputError(f"{file}, {where}: no column `{column}` ({key(parameter)}); columns found: {found}")
        return "" if pd.isna(row[column]) else str(row[column]).strip()

    text = value(params.text_column, "text_column")
    if not text:
        raise InputError(f"{file}, {where}: empty text in column `{params.text_column}`; remove or fill the row")
    label = _label_name(value(params.label_column, "label_column"), params.labels)
    if label is None:
        raise InputError(
            f"{file}, {where}: unknown label {row[params.label_column]!r}; {key('labels')} has "
            f"{', '.join(params.labels)} (or their ids 0 to {len(params.labels) - 1})"
        )
    source = value(params.source_column, "source_column") if params.source_column else file.stem
    phenomenon = value(params.phenomenon_column, "phenomenon_column") if params.phenomenon_column else ""
    return [f"{file.stem}-{where.split()[-1]}", text, label, source, phenomenon]


def _label_name(value: str, labels: list[str]) -> str | None:
    """The label whose name (in any case) or id is `value`; None if there is none."""
    by_name = {label.casefold(): label for label in labels}
    if value.casefold() in by_name:
        return by_name[value.casefold()]
    number = value.removesuffix(".0")  # a Parquet column with gaps stores ids as floats
    return labels[int(number)] if number.isdecimal() and int(number) < len(labels) else None


def read_rows(file: Path) -> Iterator[tuple[str, dict]]:
    """Yield (`row 7` or `line 7`, the row as a mapping) for each row of a file.

    Raises:
        InputError: the file is unreadable, malformed or empty.
    """
    readers = {".csv": _csv_rows, ".tsv": _csv_rows, ".jsonl": _jsonl_rows, ".parquet": _parquet_rows}
    reader = readers.get(file.suffix.lower())
    if reader is None:
        raise InputError(f"{file}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
    empty = True
    try:
        for where, row in reader(file):
            empty = False
            yield where, row
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: not UTF-8 (byte {error.start} after the last good row); convert it first") from None
    if empty:
        raise InputError(f"{file}: no rows")


def _csv_rows(file: Path) -> Iterator[tuple[str, dict]]:
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter="\t" if file.suffix.lower() == ".tsv" else ",", strict=True)
        try:
            header = next(reader, None)
            if header is None:
                return
            if len(set(header)) < len(header):
                raise InputError(f"{file}, line 1: a column name occurs twice: {', '.join(header)}")
            for cells in reader:
                if not cells:  # a blank line
                    continue
                if len(cells) != len(header):
                    raise InputError(
                        f"{file}, line {reader.line_num}: {len(cells)} fields where the header has {len(header)}; "
                        "quote texts that contain the separator"
                    )
                yield f"line {reader.line_num}", dict(zip(header, cells, strict=True))
        except csv.Error as error:
            raise InputError(f"{file}, line {reader.line_num}: {error}") from None


def _jsonl_rows(file: Path) -> Iterator[tuple[str, dict]]:
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except json.JSONDecodeError as error:
                raise InputError(f"{file}, line {number}: not JSON: {error.msg}") from None
            if not isinstance(row, dict):
                raise InputError(f"{file}, line {number}: expected an object, found {type(row).__name__}")
            yield f"line {number}", row


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict]]:
    import pandas as pd

    try:
        frame = pd.read_parquet(file)
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: not readable as Parquet: {error}") from None
    for number, row in enumerate(frame.to_dict("records"), start=1):
        yield f"row {number}", row
