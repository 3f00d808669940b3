"""Read a file of rows a part at a time: CSV, TSV and JSONL as mappings, Parquet as Arrow tables.

A file is read twice. `survey` goes through it before anything is scored, and finds what only the whole file shows: the
union of its rows' columns, and types that all values of a column have. `parts` then reads the rows themselves.
"""

import csv
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol

from fincompress.core.errors import InputError
from fincompress.data.readers import read_rows
from fincompress.serving.arrow import arrow, one_line
from fincompress.serving.column_types import ColumnTypes, as_text

ABSENT = object()
"""What a row has in a column that it lacks."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}
_BUFFER = 1 << 20  # bytes; else the whole column of a row group would be read at once
_SURROGATES = re.compile("[\ud800-\udfff]")


class Part(Protocol):
    """Some consecutive rows of a file."""

    @property
    def places(self) -> Sequence[str]:
        """Where each row is, such as `line 7`."""
        ...

    def values(self, column: str) -> list:
        """A column's values; `ABSENT` where a row lacks it."""
        ...

    def rows(self) -> list[dict[str, Any]]:
        """The rows, each with all columns of the file; None where it lacks one."""
        ...

    def arrow(self) -> Any:
        """The rows as a `pyarrow.Table` of the file's schema."""
        ...

    def found(self, row: int) -> list[str]:
        """The columns that a row has."""
        ...


class Table(Protocol):
    """A file of rows. Columns and schema are known once it has been surveyed."""

    columns: list[str]

    def survey(self, size: int, column: str) -> Iterator[Part]:
        """All rows, `size` at a time, of which no more than one column may be there."""
        ...

    def parts(self, size: int) -> Iterator[Part]:
        """All rows, `size` at a time."""
        ...

    def schema(self) -> Any:
        """The `pyarrow.Schema` of its columns."""
        ...


def open_table(path: Path, typed: bool) -> Table:
    """A table for a file, by its suffix.

    Args:
        typed: whether the columns' types will be asked for, as is the case if they are written as Parquet.

    Raises:
        InputError: it cannot be read; also while rows are read, with the place of a bad one.
    """
    return _ArrowTable(path) if path.suffix.lower() == ".parquet" else _RowTable(path, typed)


class _RowPart:
    """Rows of a CSV, TSV or JSONL file."""

    def __init__(self, table: "_RowTable", placed: list[tuple[str, dict]]):
        self._table = table
        self.places = [place for place, _ in placed]
        self._rows = [row for _, row in placed]

    def values(self, column: str) -> list:
        return [row.get(column, ABSENT) for row in self._rows]

    def rows(self) -> list[dict[str, Any]]:
        return [{column: row.get(column) for column in self._table.columns} for row in self._rows]

    def arrow(self) -> Any:
        pa, _ = arrow()
        types = self._table.types
        columns = {}
        for column in self._table.columns:
            values = [row.get(column) for row in self._rows]
            try:
                columns[column] = pa.array(as_text(values) if types.mixed(column) else values, types.of(column))
            except (pa.ArrowException, OverflowError) as error:
                where = f"{self.places[0]} to {self.places[-1]}"
                raise InputError(
                    f"{self._table.path}, {where}: column `{column}` does not fit into Parquet ({one_line(error)}); "
                    "write .jsonl"
                ) from None
        return pa.table(columns, schema=self._table.schema())

    def found(self, row: int) -> list[str]:
        return list(self._rows[row])


class _RowTable:
    """A CSV, TSV or JSONL file."""

    def __init__(self, path: Path, typed: bool):
        columns = _columns_without_rows(path)
        self.path, self.types, self.columns = path, ColumnTypes(), columns or []
        self._typed, self._empty = typed, columns is not None

    def survey(self, size: int, column: str) -> Iterator[Part]:
        if self._empty and not self.columns:  # a JSONL file of no rows
            self.columns = [column]
        known = dict.fromkeys(self.columns)
        for part in self.parts(size):
            for row in part._rows:
                known.update(dict.fromkeys(row))
            self.columns = list(known)
            if self._typed:
                for name in self.columns:
                    self.types.learn(name, [row.get(name) for row in part._rows])
            yield part

    def parts(self, size: int) -> Iterator[_RowPart]:
        rows = iter(()) if self._empty else read_rows(self.path)
        try:
            while placed := list(itertools.islice(rows, size)):
                if self.path.suffix.lower() == ".jsonl":
                    placed = [(place, _well_formed(row)) for place, row in placed]
                yield _RowPart(self, placed)
        except InputError:
            raise
        except (OSError, ValueError, RecursionError) as error:
            raise InputError(f"{self.path}: not readable: {error}") from None

    def schema(self) -> Any:
        pa, _ = arrow()
        return pa.schema([(column, self.types.of(column)) for column in self.columns])


class _ArrowPart:
    """Rows of a Parquet file."""

    def __init__(self, path: Path, start: int, table: Any):
        self._path, self._table = path, table
        self.places = [f"row {start + row}" for row in range(1, len(table) + 1)]

    def values(self, column: str) -> list:
        return _python_values(self._path, column, self._table[column])

    def rows(self) -> list[dict[str, Any]]:
        names = self._table.column_names
        columns = [self.values(name) for name in names]
        return [dict(zip(names, values, strict=True)) for values in zip(*columns, strict=True)]

    def arrow(self) -> Any:
        return self._table

    def found(self, row: int) -> list[str]:
        return self._table.column_names


class _ArrowTable:
    """A Parquet file."""

    def __init__(self, path: Path):
        pa, pq = arrow()
        self._path, self._errors = path, (OSError, pa.ArrowException)
        try:
            self._schema = pq.read_schema(path)
        except self._errors as error:
            raise self._unreadable(error) from None
        self.columns = self._schema.names
        _check_names(path, self.columns)

    def survey(self, size: int, column: str) -> Iterator[Part]:
        return self._parts(size, [column]) if column in self.columns else iter(())

    def parts(self, size: int) -> Iterator[Part]:
        return self._parts(size, None)

    def _parts(self, size: int, columns: list[str] | None) -> Iterator[Part]:
        """Parts of `size` rows whatever the row groups are, so that they stay the same if a file is written anew."""
        pa, pq = arrow()
        waiting, count, start = [], 0, 0
        try:
            with pq.ParquetFile(self._path, buffer_size=_BUFFER) as file:
                for batch in file.iter_batches(batch_size=size, columns=columns):
                    waiting.append(batch)
                    count += len(batch)
                    while count >= size:
                        table = pa.Table.from_batches(waiting)
                        yield _ArrowPart(self._path, start, table.slice(0, size))
                        start, count = start + size, count - size
                        waiting = table.slice(size).to_batches()
            if count:
                yield _ArrowPart(self._path, start, pa.Table.from_batches(waiting))
        except self._errors as error:
            raise self._unreadable(error) from None

    def schema(self) -> Any:
        return self._schema

    def _unreadable(self, error: Exception) -> InputError:
        return InputError(f"{self._path}: not readable as Parquet: {one_line(error)}")


def _python_values(path: Path, name: str, column: Any) -> list:
    """A column's values as Python objects, or as text where Python has none for them, such as nanoseconds."""
    pa, _ = arrow()
    try:
        return column.to_pylist()
    except UnicodeDecodeError:
        raise InputError(f"{path}: column `{name}` holds text that is not UTF-8") from None
    except (ValueError, OverflowError, pa.ArrowException):
        try:
            return column.cast(pa.string()).to_pylist()
        except pa.ArrowException as error:
            raise InputError(f"{path}: column `{name}` of {column.type} cannot be read: {one_line(error)}") from None


def _columns_without_rows(path: Path) -> list[str] | None:
    """The columns of a CSV or TSV file that holds a header and nothing else, none of an empty JSONL file; else None."""
    separator = SEPARATORS.get(path.suffix.lower())
    try:
        with path.open(encoding="utf-8-sig", newline="" if separator else None) as lines:
            if separator is None:
                return None if any(line.strip() for line in lines) else []
            reader = csv.reader(lines, delimiter=separator)
            header = next(reader, None)
            if header is None or any(reader):
                return None
    except OSError as error:
        raise InputError(f"{path}: not readable: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error):
        return None  # `read_rows` says what is wrong
    columns = [name for name in header if name]
    _check_names(path, columns)
    return columns


def _check_names(path: Path, columns: list[str]) -> None:
    if len(set(columns)) < len(columns):
        raise InputError(f"{path}: a column name occurs twice: {', '.join(columns)}")


def _well_formed(value: Any) -> Any:
    r"""JSON's value with U+FFFD for each half of a pair (`"\ud83d"` alone), which no encoding of Unicode can hold."""
    if isinstance(value, str):
        return value if value.isascii() else _SURROGATES.sub("\ufffd", value)
    if isinstance(value, list):
        return [_well_formed(item) for item in value]
    if isinstance(value, dict):
        return {_well_formed(key): _well_formed(item) for key, item in value.items()}
    return value
