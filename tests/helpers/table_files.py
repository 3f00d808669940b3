"""Hypothesis strategies for files as people have them: small tables in CSV, TSV, JSONL and Parquet, whole or broken."""

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

SUFFIXES = (".csv", ".tsv", ".jsonl", ".parquet")
AWKWARD = [
    '"',
    "'",
    ",",
    "\t",
    "\n",
    "\r",
    "\r\n",
    "\\",
    "\u2028",
    "\u0085",
    "\x0c",
    "\ufeff",
    "\x00",
    "é",
    "\U0001f600",
]
"""What formats trip over: separators, quotes, all kinds of line ends, and characters beyond ASCII."""
texts = st.one_of(
    st.lists(st.one_of(st.sampled_from(AWKWARD), st.text("ab 1.", max_size=3)), max_size=6).map("".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.sampled_from(["None", "NA", "null", "nan", "NaN", "", " ", "1.0", "-1", "true", "[]"]),
)
"""Cells of text, without halves of surrogate pairs, which only JSON can spell."""
names = st.text("abcxyz_ é", min_size=1, max_size=6).filter(lambda name: name == name.strip())
values = st.one_of(
    texts, st.none(), st.integers(-(2**63), 2**63 - 1), st.floats(), st.booleans(), st.lists(texts, max_size=2)
)
"""Cells of formats that have types."""


def delimited(columns: list[str], rows: list[list], separator: str, **dialect) -> bytes:
    """A CSV or TSV file as the csv module writes it."""
    content = io.StringIO(newline="")
    writer = csv.writer(content, delimiter=separator, **{"lineterminator": "\n", "quoting": csv.QUOTE_ALL, **dialect})
    writer.writerows([columns, *rows])
    return content.getvalue().encode("utf-8")


def json_lines(columns: list[str], rows: list[list]) -> bytes:
    """A JSONL file; characters beyond ASCII are escaped."""
    return "".join(json.dumps(dict(zip(columns, row, strict=True))) + "\n" for row in rows).encode("utf-8")


def parquet(columns: list[str], rows: list[list]) -> bytes:
    """A Parquet file of columns of text."""
    content = pa.BufferOutputStream()
    table = {name: pa.array([row[place] for row in rows], pa.string()) for place, name in enumerate(columns)}
    pq.write_table(pa.table(table), content)
    return content.getvalue().to_pybytes()


WRITERS: dict[str, Callable[[list[str], list[list]], bytes]] = {
    ".csv": lambda columns, rows: delimited(columns, rows, ","),
    ".tsv": lambda columns, rows: delimited(columns, rows, "\t"),
    ".jsonl": json_lines,
    ".parquet": parquet,
}


@st.composite
def tables(draw, cells=texts, columns: tuple[str, ...] = ("text",), most: int = 5) -> tuple[str, list[str], list[list]]:
    """(suffix, names of columns, rows): `columns` first, and up to two more."""
    more = draw(st.lists(names.filter(lambda name: name not in columns), max_size=2, unique=True))
    width = len(columns) + len(more)
    rows = draw(st.lists(st.lists(cells, min_size=width, max_size=width), min_size=1, max_size=most))
    return draw(st.sampled_from(SUFFIXES)), [*columns, *more], rows


@st.composite
def broken(draw, content: bytes) -> bytes:
    """A file with bytes cut off, changed or put in, or none at all."""
    for _ in range(draw(st.integers(0, 3))):
        place = draw(st.integers(0, max(0, len(content) - 1)))
        kind = draw(st.sampled_from(["cut", "change", "insert"]))
        new = draw(
            st.one_of(st.binary(min_size=1, max_size=3), st.sampled_from([b'"', b"\t", b",", b"\n", b"\xff\xfe"]))
        )
        if kind == "cut":
            content = content[:place]
        else:
            content = content[:place] + new + content[place + (len(new) if kind == "change" else 0) :]
    return content


def write(folder: Path, suffix: str, columns: list[str], rows: list[list]) -> Path:
    """A file of these rows in a folder."""
    path = folder / f"rows{suffix}"
    path.write_bytes(WRITERS[suffix](columns, rows))
    return path
