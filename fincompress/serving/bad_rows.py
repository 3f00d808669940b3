"""Rows that have no text to score, and what is said of them."""

from numbers import Number
from pathlib import Path
from typing import Any

from fincompress.core.errors import InputError
from fincompress.serving.tables import ABSENT, Part

_KINDS = {bool: "true or false", list: "a list", dict: "an object", bytes: "bytes"}


def bad_rows(part: Part, column: str) -> dict[int, str]:
    """Row of a part, from 0 -> what is there instead of a text, of those that have none."""
    reasons = ((row, _reason(value, column)) for row, value in enumerate(part.values(column)))
    return {row: reason for row, reason in reasons if reason}


def _reason(value: Any, column: str) -> str | None:
    if isinstance(value, str):
        return None if value.strip() else "empty text"
    if value is ABSENT:
        return f"no column `{column}`"
    if value is None:
        return "null"
    number = "a number" if isinstance(value, Number) else f"a value of type {type(value).__name__}"
    return _KINDS.get(type(value), number)


def refusal(source: Path, column: str, part: Part, row: int, reason: str, bad: int) -> InputError:
    """The error for a file of which `row` of `part` is the first of `bad` rows without a text."""
    if part.values(column)[row] is ABSENT:
        said = f"{reason}; columns found: {', '.join(part.found(row)) or 'none'}"
    else:
        said = f"{reason} in column `{column}`"
    more = f" ({bad - 1} more rows have no text)" if bad > 1 else ""
    return InputError(f"{source}, {part.places[row]}: {said}{more}; mend or remove the row, or choose --on-error null")
