"""Write scored rows a part at a time, as CSV, TSV, JSONL or Parquet."""

import csv
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Protocol

from fincompress.serving.arrow import arrow
from fincompress.serving.tables import SEPARATORS, Part, Table

_ROW_GROUP = 1 << 15  # rows of a row group in Parquet, unless they take `_ROW_GROUP_BYTES` before
_ROW_GROUP_BYTES = 16 << 20


class Writer(Protocol):
    """Takes rows in their order."""

    def write(self, part: Part, results: dict[str, list]) -> None:
        """Write the rows of a part, each with its value of every column of `results`."""
        ...


@contextmanager
def open_writer(path: Path, suffix: str, table: Table, results: dict[str, str]) -> Iterator[Writer]:
    """A writer for a file of the kind that `suffix` names; the file is complete when the block ends.

    Args:
        table: what is scored, already surveyed.
        results: the columns to add, with their types as Arrow names them.
    """
    if suffix == ".parquet":
        pa, pq = arrow()
        schema = table.schema()
        for name, kind in results.items():
            schema = schema.append(pa.field(name, pa.type_for_alias(kind)))
        with pq.ParquetWriter(path, schema) as file:
            writer = _ParquetWriter(file, schema)
            yield writer
            writer.flush()
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            yield _JsonWriter(file) if suffix == ".jsonl" else _CsvWriter(file, suffix, [*table.columns, *results])


def _with(part: Part, results: dict[str, list]) -> Iterator[dict[str, Any]]:
    for row, *own in zip(part.rows(), *results.values(), strict=True):
        yield {**row, **dict(zip(results, own, strict=True))}


class _JsonWriter:
    def __init__(self, file: IO[str]):
        self._file = file

    def write(self, part: Part, results: dict[str, list]) -> None:
        rows = (json.dumps(row, ensure_ascii=False, default=str) for row in _with(part, results))
        self._file.writelines(f"{row}\n" for row in rows)


class _CsvWriter:
    """Rows end in a line feed; a cell with a line feed or a carriage return is quoted."""

    def __init__(self, file: IO[str], suffix: str, columns: list[str]):
        # Every Python quotes the characters of a line's end, but not every one a "\r" that is no part of it.
        end = "\r\n"
        self._rows = csv.DictWriter(_LineFeeds(file, end), columns, delimiter=SEPARATORS[suffix], lineterminator=end)
        self._rows.writeheader()

    def write(self, part: Part, results: dict[str, list]) -> None:
        self._rows.writerows(_with(part, results))


class _LineFeeds:
    """Ends the rows that `csv` writes, each in a call of its own, in a line feed."""

    def __init__(self, file: IO[str], end: str):
        self._file, self._end = file, end

    def write(self, row: str) -> int:
        return self._file.write(row.removesuffix(self._end) + "\n")


class _ParquetWriter:
    """Gathers parts into row groups of a useful size."""

    def __init__(self, file: Any, schema: Any):
        self._file, self._schema, self._waiting = file, schema, list[Any]()

    def write(self, part: Part, results: dict[str, list]) -> None:
        pa, _ = arrow()
        table = part.arrow()
        for name, values in results.items():
            field = self._schema.field(name)
            table = table.append_column(field, pa.array(values, field.type))
        self._waiting.append(table)
        rows = sum(len(table) for table in self._waiting)
        if rows >= _ROW_GROUP or sum(table.nbytes for table in self._waiting) >= _ROW_GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits as a row group."""
        if self._waiting:
            pa, _ = arrow()
            self._file.write_table(pa.concat_tables(self._waiting))
            self._waiting.clear()
