"""Small files of any content are scored whole, with the same values, or refused in one line that leaves nothing."""

import csv
import json
import math
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import given, settings
from hypothesis import strategies as st
from stub_classifier import StubClassifier, label

from fincompress.core.errors import InputError
from fincompress.serving.files import errors_file, score_file

RESULTS = ("predicted_label", "probability_negative", "probability_positive")
EXAMPLES = 120  # of each test

anything = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=8)
texts = st.one_of(st.sampled_from(["Sales rose.", "", " ", "a\rb", 'say "x"', "1\n2", "\ufeffx", "NA"]), anything)
names = st.one_of(st.sampled_from(["text", "predicted_label", "a,b", "n", "a.b", "text.x", "", "v"]), anything)
scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    texts,
    st.text(max_size=4),  # with surrogates
)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2), max_leaves=4
)
lines = st.dictionaries(names, values, max_size=3).map(lambda row: {"text": "Sales rose.", **row})
suffixes = st.sampled_from([".csv", ".tsv", ".jsonl", ".parquet"])
choices = st.sampled_from(["fail", "null"])


def score(source: Path, suffix: str, on_error: str) -> list[dict] | None:
    """The rows of the output; None if the input was refused, which must leave nothing."""
    stub = StubClassifier(source.parent / "model")
    target = source.with_name(f"out{suffix}")
    try:
        done = score_file(stub, source, target, show_progress=False, on_error=on_error)
    except InputError as error:
        message = str(error).replace(str(source.parent), "")
        assert len(message.splitlines()) == 1 or not message.isprintable(), "one line, but for names of columns"
        assert {path.name for path in source.parent.iterdir()} <= {source.name, "model", f".{target.name}.parts"}
        return None
    rows = read(target)
    assert len(rows) == done.rows
    listed = errors_file(target)
    bad = [json.loads(line)["row"] for line in listed.read_text().splitlines()] if listed.is_file() else []
    empty = "" if suffix in (".csv", ".tsv") else None
    assert bad == [number for number, row in enumerate(rows, start=1) if row["predicted_label"] == empty]
    assert len(bad) == done.bad and (on_error == "null" or not bad)
    for number, row in enumerate(rows, start=1):
        if number not in bad:
            assert row["predicted_label"] == label(row["text"])
    return [{key: value for key, value in row.items() if key not in RESULTS} for row in rows]


def read(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        columns = [held(table[name]) for name in table.column_names]
        return [dict(zip(table.column_names, row, strict=True)) for row in zip(*columns, strict=True)]
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def held(column: pa.ChunkedArray) -> list:
    """A column's values, as text where Python has no such dates."""
    try:
        return column.to_pylist()
    except (ValueError, OverflowError):
        return column.cast(pa.string()).to_pylist()


def well_formed(value):
    """A JSON value with U+FFFD for halves of surrogate pairs."""
    if isinstance(value, str):
        return "".join("\ufffd" if "\ud800" <= character <= "\udfff" else character for character in value)
    if isinstance(value, list):
        return [well_formed(item) for item in value]
    if isinstance(value, dict):
        return {well_formed(key): well_formed(item) for key, item in value.items()}
    return value


@settings(max_examples=EXAMPLES)
@given(st.lists(lines, max_size=4), suffixes, choices)
def test_lines_of_json(rows, suffix, on_error):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.jsonl"
        source.write_text("".join(json.dumps(row) + "\n" for row in rows))
        scored = score(source, suffix, on_error)
    if scored is not None and suffix == ".jsonl":
        rows = [well_formed(row) for row in rows]
        columns = list(dict.fromkeys(key for row in rows for key in row))
        assert scored == [{column: row.get(column) for column in columns} for row in rows]
        assert all(list(row) == columns for row in scored)


@settings(max_examples=EXAMPLES)
@given(st.lists(names, max_size=3), st.data(), st.sampled_from([".csv", ".tsv"]), suffixes, choices)
def test_cells_of_a_table(header, data, kind, suffix, on_error):
    plain = st.text(st.characters(codec="utf-8", exclude_characters='\0\t"\r\n\ufeff'), max_size=8)
    cells = texts if kind == ".csv" else plain
    header = ["text", *(name for name in header if name not in ("", "text"))]
    rows = data.draw(st.lists(st.lists(cells, min_size=len(header), max_size=len(header)), max_size=4))
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"in{kind}"
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, delimiter="," if kind == ".csv" else "\t", lineterminator="\r\n")
            writer.writerows([header, *rows])
        scored = score(source, suffix, on_error)
    if scored is not None:
        assert [list(row.values()) for row in scored] == rows


@settings(max_examples=EXAMPLES)
@given(st.binary(max_size=60) | anything.map(str.encode), suffixes, suffixes, choices)
def test_any_bytes(content, kind, suffix, on_error):
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / f"in{kind}"
        source.write_bytes(content)
        score(source, suffix, on_error)


numbers = {
    pa.int32(): st.integers(-(2**31), 2**31 - 1),
    pa.uint64(): st.integers(0, 2**64 - 1),
    pa.float32(): st.floats(width=32, allow_nan=False),
    pa.timestamp("ns", "Europe/Helsinki"): st.integers(-(2**62), 2**62),
    pa.timestamp("s"): st.integers(-(2**40), 2**40),
    pa.date32(): st.integers(-(2**31), 2**31 - 1),
    pa.bool_(): st.booleans(),
    pa.string(): anything,
    pa.large_string(): anything,
    pa.binary(): st.binary(max_size=4),
    pa.dictionary(pa.int32(), pa.string()): anything,
    pa.list_(pa.int64()): st.lists(st.integers(-9, 9), max_size=2),
    pa.map_(pa.string(), pa.int64()): st.lists(
        st.tuples(anything, st.integers(-9, 9)), max_size=2, unique_by=lambda x: x[0]
    ),
    pa.struct([("a", pa.int8())]): st.fixed_dictionaries({"a": st.integers(-9, 9)}),
}


@settings(max_examples=EXAMPLES)
@given(st.data(), st.integers(0, 4), st.integers(1, 3), suffixes, choices)
def test_columns_of_parquet(data, rows, group, suffix, on_error):
    def column(kind: pa.DataType) -> pa.Array:
        count = {"min_size": rows, "max_size": rows}
        return pa.array(data.draw(st.lists(st.none() | numbers[kind], **count)), kind)

    kinds = data.draw(st.lists(st.sampled_from(list(numbers)), max_size=3))
    titles = data.draw(st.lists(names, min_size=len(kinds), max_size=len(kinds)))
    first = data.draw(
        st.sampled_from([pa.string(), pa.large_string(), pa.dictionary(pa.int32(), pa.string()), pa.int32()])
    )
    chosen = [(first, "text"), *zip(kinds, titles, strict=True)]
    before = pa.Table.from_arrays([column(kind) for kind, _ in chosen], names=[name for _, name in chosen])
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "in.parquet"
        pq.write_table(before, source, row_group_size=group)
        if score(source, suffix, on_error) is not None and suffix == ".parquet":
            source_table = pq.read_table(source)
            after = pq.read_table(Path(folder) / "out.parquet")
            assert after.select(source_table.column_names).schema.equals(source_table.schema)
            for name in source_table.column_names:
                assert held(after[name]) == held(source_table[name])


def test_not_a_number_stays_so(tmp_path):
    pq.write_table(pa.table({"text": ["Sales rose."], "x": [math.nan]}), tmp_path / "in.parquet")
    (row,) = score(tmp_path / "in.parquet", ".parquet", "fail")
    assert math.isnan(row["x"])
