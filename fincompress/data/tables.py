"""Read the rows of a table, whether CSV, TSV, JSONL or Parquet, and name what cannot be read."""

import codecs
import csv
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fincompress.core.errors import InputError

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
_SURROGATE = re.compile("[\ud800-\udfff]")
_QUOTED_CELL = re.compile(r'"(?:[^"]|"")*"')
csv.field_size_limit(2**31 - 1)  # characters of a cell, instead of 131,072: the tokenizer cuts long texts


def read_rows(
    file: Path,
    encoding: str | None = None,
    header: bool = True,
    may_be_empty: bool = False,
    encoding_key: str | None = None,
) -> Iterator[tuple[str, dict]]:
    """Yield (`row 7` or `line 7`, the row as a mapping) for each row of a file.

    Args:
        encoding: of the file, unless it is Parquet; None is UTF-8.
        header: whether the first line of a .csv or .tsv file names its columns; otherwise they are named 0, 1, ….
        may_be_empty: a file without rows is no error.
        encoding_key: the key that sets `encoding`, which an error suggests.

    Raises:
        InputError: the file is unreadable, malformed or empty.
    """
    suffix = file.suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{file}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
    if not header and suffix not in (".csv", ".tsv"):
        raise InputError(f"{file}: its columns have names, and only .csv and .tsv files can do without a header")
    codec = text_codec(encoding)
    empty = True
    try:
        if suffix == ".parquet":
            rows = _parquet_rows(file)
        else:
            rows = _jsonl_rows(file, codec) if suffix == ".jsonl" else _csv_rows(file, codec, header)
        for where, row in rows:
            empty = False
            yield where, row
    except UnicodeError as error:
        raise InputError(f"{file}: {_undecodable(file, error, codec, encoding_key)}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror or error}") from None
    if empty and not may_be_empty:
        raise InputError(f"{file}: no rows")


def cell_text(value: Any, where: str) -> str:
    """A cell as text without space around it; empty for a missing one.

    Raises:
        InputError: it holds a list or an object, or bytes that are not UTF-8.
    """
    if value is None or value != value:  # as NaN and NaT do
        return ""
    if isinstance(value, (list, tuple, dict, set)):
        raise InputError(f"{where}: expected text, found {type(value).__name__}")
    if isinstance(value, bytes):
        try:
            value = value.decode("utf-8")
        except UnicodeDecodeError:
            raise InputError(f"{where}: expected text, found bytes that are not UTF-8") from None
    return str(value).strip()


def text_codec(encoding: str | None) -> str:
    """The codec for an encoding; UTF-8 may begin with a byte order mark."""
    return "utf-8-sig" if encoding is None or codecs.lookup(encoding).name == "utf-8" else encoding


def _undecodable(file: Path, error: UnicodeError, codec: str, key: str | None) -> str:
    """What to say of a file that is not in the encoding that it was read in."""
    place = f" (byte {error.start} after the last good row)" if isinstance(error, UnicodeDecodeError) else ""
    with file.open("rb") as content:
        start = content.read(2)
    likely = "utf-16" if start in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "cp1252"
    name = "UTF-8" if codec == "utf-8-sig" else codec
    set_key = f", or set {key} (it may be {likely})" if key else f" (it may be {likely})"
    return f"not {name}{place}; convert it to UTF-8 first{set_key}"


def _csv_rows(file: Path, codec: str, header: bool) -> Iterator[tuple[str, dict]]:
    tabs = file.suffix.lower() == ".tsv"
    dialect: dict[str, Any] = {"delimiter": "\t" if tabs else ",", "strict": True}
    if tabs and not _is_quoted(file, codec):
        dialect |= {"quoting": csv.QUOTE_NONE, "strict": False}
    with file.open(encoding=codec, newline="") as lines:
        reader = csv.reader(lines, **dialect)
        names: list | None = None
        try:
            for cells in reader:
                line = reader.line_num
                if not cells:  # a blank line
                    continue
                if names is None:
                    names = _column_names(cells, f"{file}, line {line}") if header else list(range(len(cells)))
                    if header:
                        continue
                if len(cells) != len(names):
                    than = "the header has" if header else "the first line has"
                    raise InputError(
                        f"{file}, line {line}: {len(cells)} fields where {than} {len(names)}; "
                        "quote texts that contain the separator"
                    )
                yield f"line {line}", _named_cells(names, cells, f"{file}, line {line}")
        except csv.Error as error:
            raise InputError(f"{file}, line {reader.line_num}: {error}") from None


def _column_names(cells: list[str], where: str) -> list[str | None]:
    """The names of a header; None for columns without one, where several have none."""
    named = [cell for cell in cells if cell.strip()]
    if len(set(named)) < len(named):
        raise InputError(f"{where}: a column name occurs twice: {', '.join(named)}")
    return [*cells] if len(cells) - len(named) <= 1 else [cell if cell.strip() else None for cell in cells]


def _named_cells(names: list, cells: list[str], where: str) -> dict:
    """A row without its empty cells in columns that have no name."""
    if None in names and any(name is None and cell.strip() for name, cell in zip(names, cells, strict=True)):
        raise InputError(f"{where}: a value in a column without a name; name the column in the first line")
    return {name: cell for name, cell in zip(names, cells, strict=True) if name is not None}


def _is_quoted(file: Path, codec: str) -> bool:
    """Whether quotation marks around cells of a TSV file are quotes of the format, not part of the texts.

    Many programs write TSV without quoting. If every line has equally many fields, no cell needs quotes; one with
    marks that could not be quotes then shows that none are.

    Raises:
        InputError: the file can be read both ways, one of which has fewer and longer rows.
    """
    widths, well_formed = set(), True
    with file.open(encoding=codec) as lines:
        for line in lines:
            if cells := line.rstrip("\n").split("\t") if line.strip("\n") else []:
                widths.add(len(cells))
                well_formed = well_formed and all('"' not in cell or _QUOTED_CELL.fullmatch(cell) for cell in cells)
    if well_formed:
        return True
    even = len(widths) == 1
    if joined := _joined_lines(file, codec, even):
        raise InputError(
            f"{file}, lines {joined[0]} to {joined[1]}: the quotation marks may hold one text or belong to several; "
            "take them away where cells begin, or save the file as .csv or .jsonl"
        )
    return not even


def _joined_lines(file: Path, codec: str, even: bool) -> tuple[int, int] | None:
    """The first lines of a TSV file that quotation marks join to one row, if it can be read with quoting at all.

    Args:
        even: every line has equally many fields; otherwise only joined lines with a tab in quotes count.
    """
    widths, first, start = set(), None, 1
    with file.open(encoding=codec, newline="") as lines:
        reader = csv.reader(lines, delimiter="\t", strict=True)
        try:
            for cells in reader:
                if cells:
                    widths.add(len(cells))
                spanning = [cell for cell in cells if "\n" in cell or "\r" in cell]
                if not first and (spanning if even else any("\t" in cell for cell in spanning)):
                    first = start, reader.line_num
                start = reader.line_num + 1
        except csv.Error:
            return None
    return first if len(widths) == 1 else None


def _jsonl_rows(file: Path, codec: str) -> Iterator[tuple[str, dict]]:
    with file.open(encoding=codec) as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                problem = error.msg if isinstance(error, json.JSONDecodeError) else error
                raise InputError(f"{file}, line {number}: not JSON: {problem}") from None
            if not isinstance(row, dict):
                raise InputError(f"{file}, line {number}: expected an object, found {type(row).__name__}")
            yield f"line {number}", without_surrogates(row) if "\\ud" in line.lower() else row


def without_surrogates(value: Any) -> Any:
    """A JSON value in which half a surrogate pair, which no encoding can hold, is U+FFFD."""
    if isinstance(value, str):
        return _SURROGATE.sub("\ufffd", value)
    if isinstance(value, list):
        return [without_surrogates(item) for item in value]
    if isinstance(value, dict):
        return {without_surrogates(name): without_surrogates(item) for name, item in value.items()}
    return value


def _parquet_rows(file: Path) -> Iterator[tuple[str, dict]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(file) as content:
            for batch in content.iter_batches():
                for row in batch.to_pylist():
                    number += 1
                    yield f"row {number}", row
    except (OSError, pa.ArrowException, OverflowError) as error:
        raise InputError(f"{file}: not readable as Parquet: {' '.join(str(error).split())}") from None
