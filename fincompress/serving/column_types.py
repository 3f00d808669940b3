"""The Parquet types of columns that come as Python values, from CSV or JSONL."""

import io
import json
from typing import Any

from fincompress.serving.arrow import arrow


class ColumnTypes:
    """Learns the type that all values of a column fit into; a column with values of several kinds becomes text."""

    def __init__(self) -> None:
        self._types: dict[str, Any] = {}
        self._mixed: set[str] = set()
        self._large: set[str] = set()  # columns with integers that a float64 cannot hold

    def learn(self, column: str, values: list) -> None:
        """Take further values of a column into account; None fits everything."""
        if column in self._mixed:
            return
        pa, _ = arrow()
        try:
            array = pa.array(values)
            self._types[column] = kind = self._merged(column, array.type)
        except (pa.ArrowException, OverflowError):
            self._mixed.add(column)
            return
        if pa.types.is_int64(array.type) and column not in self._large:
            try:
                array.cast(pa.float64())
            except pa.ArrowException:
                self._large.add(column)
        if (column in self._large and pa.types.is_floating(kind)) or not _storable(kind):
            self._mixed.add(column)

    def _merged(self, column: str, found: Any) -> Any:
        pa, _ = arrow()
        known = self._types.get(column, found)
        if known == found:
            return found
        schemas = [pa.schema([(column, kind)]) for kind in (known, found)]
        return pa.unify_schemas(schemas, promote_options="permissive").field(0).type

    def mixed(self, column: str) -> bool:
        """Whether the column's values become text."""
        return column in self._mixed

    def of(self, column: str) -> Any:
        """The column's `pyarrow.DataType`; text if it has not been seen, as in a file without rows."""
        pa, _ = arrow()
        return pa.string() if self.mixed(column) else self._types.get(column, pa.string())


def as_text(values: list) -> list[str | None]:
    """Texts as they are, and JSON of all else; None stays."""
    return [
        value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False) for value in values
    ]


def _storable(kind: Any) -> bool:
    """Whether Parquet has the type: it has no struct without fields, as an empty JSON object would be."""
    pa, pq = arrow()
    try:
        pq.write_table(pa.schema([("column", kind)]).empty_table(), io.BytesIO())
    except pa.ArrowException:
        return False
    return True
