"""Scoring files as people have them: rows without a text, ragged and mixed columns, every type that Parquet has."""

import csv
import datetime
import decimal
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from stub_classifier import StubClassifier, expected, label

from fincompress.core.errors import InputError
from fincompress.serving import files as bulk
from fincompress.serving.files import Scored, errors_file, score_file

RESULTS = ["predicted_label", "probability_negative", "probability_positive"]
ROSE, FELL = "Sales rose.", "Sales fell."


@pytest.fixture
def stub(tmp_path) -> StubClassifier:
    return StubClassifier(tmp_path / "model")


def write_lines(path: Path, rows: list[dict]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read(path: Path) -> list[dict]:
    """The rows of an output: of CSV and TSV as texts."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def left(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()} - {"model"}


TABLES = {
    "null": pa.table({"text": [ROSE, None]}),
    "a number": pa.table({"text": [7, 8]}),
    "empty text": pa.table({"text": [ROSE, ""]}),
    "an object": pa.table({"text": [{"a": 1}]}),
}
LINES = {
    "null": [{"text": None}],
    "a number": [{"text": 2}],
    "true or false": [{"text": True}],
    "a list": [{"text": [ROSE]}],
    "empty text": [{"text": " \n"}],
    "no column `text`": [{"txt": ROSE}],
}


@pytest.mark.parametrize(("reason", "content"), [(key, rows) for kind in (TABLES, LINES) for key, rows in kind.items()])
def test_a_row_without_a_text_is_refused_by_the_right_word_or_gets_no_result(stub, tmp_path, reason, content):
    if isinstance(content, list):
        source = write_lines(tmp_path / "in.jsonl", [{"text": ROSE}, *content])
        places, bad = ["line 2"], [2]
    else:
        source = tmp_path / "in.parquet"
        pq.write_table(content, source)
        bad = [row for row, text in enumerate(content["text"].to_pylist(), start=1) if text != ROSE]
        places = [f"row {row}" for row in bad]
    target = tmp_path / f"out{source.suffix}"
    with pytest.raises(InputError) as error:
        score_file(stub, source, target)
    assert str(error.value).startswith(f"{source}, {places[0]}: {reason}") and "--on-error null" in str(error.value)
    assert stub.calls == [] and left(tmp_path) == {source.name}, "before anything is scored"
    done = score_file(stub, source, target, on_error="null")
    rows = read(target)
    assert done == Scored(len(rows), len(bad))
    for number, row in enumerate(rows, start=1):
        assert [row[name] for name in RESULTS] == (
            [None] * 3 if number in bad else [label(ROSE), *(round(value, 6) for value in expected(ROSE))]
        )
    listed = [json.loads(line) for line in errors_file(target).read_text().splitlines()]
    assert listed == [{"row": row, "at": place, "reason": reason} for row, place in zip(bad, places, strict=True)]
    assert left(tmp_path) == {source.name, target.name, f"{target.name}.errors.jsonl"}


def test_the_list_of_bad_rows_goes_with_the_rows(stub, tmp_path):
    source, target = tmp_path / "in.jsonl", tmp_path / "out.csv"
    write_lines(source, [{"text": ROSE}, {"text": ""}])
    assert score_file(stub, source, target, on_error="null") == Scored(2, 1)
    assert errors_file(target).is_file() and read(target)[1] == dict.fromkeys(["text", *RESULTS], "")
    write_lines(source, [{"text": ROSE}, {"text": FELL}])
    assert score_file(stub, source, target, on_error="null") == Scored(2, 0)
    assert not errors_file(target).exists()


def test_all_bad_rows_are_counted_when_the_first_is_refused(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "ROWS", 2)
    source = write_lines(tmp_path / "in.jsonl", [{"text": text} for text in (ROSE, "", ROSE, None, " ")])
    with pytest.raises(InputError, match=r"line 2: empty text in column `text` \(2 more rows have no text\); mend"):
        score_file(stub, source, tmp_path / "out.jsonl")


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".tsv", ".jsonl"])
def test_rows_with_different_keys_all_get_the_columns_of_all(stub, tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(bulk, "ROWS", 1)
    source = write_lines(
        tmp_path / "in.jsonl", [{"text": ROSE}, {"text": FELL, "tag": "Bearish"}, {"n": 1, "text": ROSE}]
    )
    target = tmp_path / f"out{suffix}"
    assert score_file(stub, source, target) == Scored(3, 0)
    rows = read(target)
    absent = "" if suffix in (".csv", ".tsv") else None
    one = "1" if suffix in (".csv", ".tsv") else 1
    assert [list(row) for row in rows] == [["text", "tag", "n", *RESULTS]] * 3
    assert [(row["text"], row["tag"], row["n"]) for row in rows] == [
        (ROSE, absent, absent),
        (FELL, "Bearish", absent),
        (ROSE, absent, one),
    ]


@pytest.mark.parametrize(
    ("values", "written"),
    [
        ([1, 1, "n/a"], ["1", "1", "n/a"]),
        ([1, True, None], ["1", "true", None]),
        ([1, 2.5, 3], [1.0, 2.5, 3.0]),
        ([2**53 + 1, 2.5, 1], [str(2**53 + 1), "2.5", "1"]),
        ([2**70, 1, 2], [str(2**70), "1", "2"]),
        ([{"a": 1}, [2], "é"], ['{"a": 1}', "[2]", "é"]),
        ([{"a": 1}, {"b": "x"}, None], [{"a": 1, "b": None}, {"a": None, "b": "x"}, None]),
        ([{}, {}, {}], ["{}", "{}", "{}"]),
        ([None, None, None], [None, None, None]),
    ],
)
@pytest.mark.parametrize("size", [1, 16])
def test_values_of_several_kinds_in_a_column_become_text_in_parquet(stub, tmp_path, monkeypatch, values, written, size):
    monkeypatch.setattr(bulk, "ROWS", size)
    source = write_lines(tmp_path / "in.jsonl", [{"text": ROSE, "v": value} for value in values])
    score_file(stub, source, tmp_path / "out.parquet")
    assert [row["v"] for row in read(tmp_path / "out.parquet")] == written


NOW = datetime.datetime(2024, 3, 31, 1, 30, tzinfo=datetime.UTC)
COLUMNS = {
    "id": pa.array([2**63 + 5, None, 7], pa.uint64()),
    "i": pa.array([1, 2, None], pa.int32()),
    "f": pa.array([0.1, None, 3.5], pa.float32()),
    "nanos": pa.array([1, 1_700_000_000_000_000_001, None], pa.timestamp("ns")),
    "zone": pa.array([NOW, NOW, NOW], pa.timestamp("us", "Europe/Helsinki")),
    "dictionary": pa.array(["a", "b", "a"]).dictionary_encode(),
    "map": pa.array([[("m", 1)], [], None], pa.map_(pa.string(), pa.int64())),
    "decimal": pa.array([decimal.Decimal("1.25"), None, decimal.Decimal("-3.00")], pa.decimal128(9, 2)),
    "list": pa.array([[1, None], [], None], pa.list_(pa.int16())),
    "struct": pa.array([{"a": 1}, None, {"a": None}], pa.struct([("a", pa.int8())])),
    "large": pa.array(["x", None, "y"], pa.large_string()),
    "bytes": pa.array([b"\xff", None, b""], pa.binary()),
    "date": pa.array([datetime.date(2024, 1, 1), None, None], pa.date32()),
    "far": pa.array([2**58, None, None], pa.timestamp("ms")),
    "nothing": pa.nulls(3),
    "a.b": pa.array([True, False, None]),
}
TEXTS = {
    "string": pa.array([ROSE, FELL, ROSE]),
    "large_string": pa.array([ROSE, FELL, ROSE], pa.large_string()),
    "string_view": pa.array([ROSE, FELL, ROSE], pa.string_view()),
    "dictionary": pa.array([ROSE, FELL, ROSE]).dictionary_encode(),
}


@pytest.mark.parametrize("kind", TEXTS)
@pytest.mark.parametrize("size", [1, 2, 16])
def test_parquet_columns_stay_as_they_are(stub, tmp_path, monkeypatch, kind, size):
    monkeypatch.setattr(bulk, "ROWS", size)
    before = pa.table({**COLUMNS, "text": TEXTS[kind]}).replace_schema_metadata({"owner": "desk 4"})
    before = before.select([*list(COLUMNS)[:3], "text", *list(COLUMNS)[3:]])
    pq.write_table(before, tmp_path / "in.parquet", row_group_size=2)
    assert score_file(stub, tmp_path / "in.parquet", tmp_path / "out.parquet") == Scored(3, 0)
    after = pq.read_table(tmp_path / "out.parquet")
    assert after.schema.names == [*before.schema.names, *RESULTS]
    assert after.select(before.schema.names).schema.equals(pq.read_schema(tmp_path / "in.parquet"))
    assert after.schema.metadata[b"owner"] == b"desk 4"
    for name in before.schema.names:
        plain = COLUMNS.get(name, TEXTS["string"])
        plain = plain.dictionary_decode() if name == "dictionary" else plain
        assert after[name].cast(plain.type).combine_chunks().equals(plain), name
    assert [after.schema.field(name).type for name in RESULTS] == [pa.string(), pa.float64(), pa.float64()]
    assert after["predicted_label"].to_pylist() == [label(ROSE), label(FELL), label(ROSE)]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_what_python_cannot_hold_becomes_text_where_the_output_has_no_types(stub, tmp_path, suffix):
    pq.write_table(pa.table({"text": TEXTS["string"], **COLUMNS}), tmp_path / "in.parquet")
    score_file(stub, tmp_path / "in.parquet", tmp_path / f"out{suffix}")
    rows = read(tmp_path / f"out{suffix}")
    assert int(rows[0]["id"]) == 2**63 + 5 and "000000001" in rows[1]["nanos"] and rows[0]["decimal"] == "1.25"


def test_empty_files_become_empty_scored_files(stub, tmp_path):
    pq.write_table(pa.table({"text": pa.array([], pa.string()), "n": pa.array([], pa.int8())}), tmp_path / "a.parquet")
    (tmp_path / "b.csv").write_text("id,text\n\n")
    (tmp_path / "c.jsonl").write_text("\n")
    for name, columns in {"a.parquet": ["text", "n"], "b.csv": ["id", "text"], "c.jsonl": ["text"]}.items():
        for suffix in (".parquet", ".csv", ".jsonl"):
            target = tmp_path / f"out{suffix}"
            assert score_file(stub, tmp_path / name, target) == Scored(0, 0)
            assert read(target) == []
            if suffix == ".csv":
                assert target.read_text() == ",".join([*columns, *RESULTS]) + "\n"
            elif suffix == ".parquet":
                assert pq.read_schema(target).names == [*columns, *RESULTS]
    assert pq.read_schema(tmp_path / "a.parquet").field("n").type == pa.int8()
    assert stub.calls == []


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_lone_carriage_return_reads_back_and_other_cells_stay_unquoted(stub, tmp_path, suffix):
    rows = [{"text": "Profit rose.\rSales fell.", "n": "a"}, {"text": "a\r\nb", "n": "c\nd"}, {"text": ROSE, "n": ""}]
    source = write_lines(tmp_path / "in.jsonl", rows)
    score_file(stub, source, tmp_path / f"out{suffix}")
    assert [(row["text"], row["n"]) for row in read(tmp_path / f"out{suffix}")] == [(r["text"], r["n"]) for r in rows]
    separator = "," if suffix == ".csv" else "\t"
    last = (tmp_path / f"out{suffix}").read_bytes().decode().rsplit("\n", 2)[1]
    assert last.startswith(f"{ROSE}{separator}{separator}{label(ROSE)}{separator}") and '"' not in last


def test_a_half_of_a_surrogate_pair_becomes_the_replacement_character(stub, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "up \\ud83d", "\\ude00": ["\\ud83d\\ude00", {"a": "\\ude00"}]}\n')
    for suffix in (".jsonl", ".parquet", ".csv"):
        score_file(stub, tmp_path / "in.jsonl", tmp_path / f"out{suffix}")
        (row,) = read(tmp_path / f"out{suffix}")
        assert row["text"] == "up \ufffd" and "\ufffd" in row
    assert read(tmp_path / "out.jsonl")[0]["\ufffd"] == ["😀", {"a": "\ufffd"}]


def test_a_column_that_a_result_would_replace_is_named_before_any_work(stub, tmp_path):
    write_lines(tmp_path / "in.jsonl", [{"text": ROSE}, {"text": FELL, "probability_positive": 1}])
    pq.write_table(pa.table({"text": [ROSE], "predicted_label": ["up"]}), tmp_path / "in.parquet")
    for name, column in {"in.jsonl": "probability_positive", "in.parquet": "predicted_label"}.items():
        with pytest.raises(InputError, match=rf"{name}: has a column `{column}`.*rename"):
            score_file(stub, tmp_path / name, tmp_path / "out.jsonl")
    assert stub.calls == [] and left(tmp_path) == {"in.jsonl", "in.parquet"}


def test_mending_rows_scores_their_parts_again_and_no_others(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "ROWS", 10)
    source, target = tmp_path / "in.jsonl", tmp_path / "out.jsonl"
    rows = [{"text": f"Text {number}" if number % 25 else "", "n": number} for number in range(200)]
    write_lines(source, rows)
    stub.stop_at = 12
    with pytest.raises(KeyboardInterrupt):
        score_file(stub, source, target, on_error="null")
    assert len(stub.calls) == 12 and not target.exists()
    rows[25]["text"], rows[150]["text"], rows[60]["n"] = "mended", "mended too", -1
    write_lines(source, rows)
    stub.stop_at, stub.calls = None, []
    assert score_file(stub, source, target, on_error="null") == Scored(200, 6)
    asked = [text for call in stub.calls for text in call]
    assert len(stub.calls) == 1 + 8, "the mended one of twelve finished parts, and those that were left"
    assert asked == [row["text"] for row in [*rows[20:30], *rows[120:]] if row["text"]]
    scored = read(target)
    assert [{"text": row["text"], "n": row["n"]} for row in scored] == rows
    assert [row["predicted_label"] for row in scored] == [label(r["text"]) if r["text"] else None for r in rows]
    assert left(tmp_path) == {"in.jsonl", "out.jsonl", "out.jsonl.errors.jsonl"}


@pytest.mark.parametrize("change", ["model", "batch_size", "runtime"])
def test_what_another_model_or_other_options_left_is_not_taken(stub, tmp_path, monkeypatch, change):
    monkeypatch.setattr(bulk, "ROWS", 1)
    source = write_lines(tmp_path / "in.jsonl", [{"text": ROSE}, {"text": FELL}])
    stub.stop_at = 1
    with pytest.raises(KeyboardInterrupt):
        score_file(stub, source, tmp_path / "out.jsonl")
    stub.stop_at, stub.calls = None, []
    if change == "model":
        (stub.folder / "model.onnx").write_text("other weights")
    elif change == "runtime":
        stub.runtime = "other"
    score_file(stub, source, tmp_path / "out.jsonl", batch_size=8 if change == "batch_size" else 32)
    assert stub.calls == [[ROSE], [FELL]]


def test_a_damaged_part_is_scored_again(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "ROWS", 1)
    source = write_lines(tmp_path / "in.jsonl", [{"text": ROSE}, {"text": FELL}])
    stub.stop_at = 1
    with pytest.raises(KeyboardInterrupt):
        score_file(stub, source, tmp_path / "out.jsonl")
    (part,) = (tmp_path / ".out.jsonl.parts").glob("*.npy")
    part.write_bytes(part.read_bytes()[:100])
    stub.stop_at, stub.calls = None, []
    score_file(stub, source, tmp_path / "out.jsonl")
    assert stub.calls == [[ROSE], [FELL]]


def test_an_input_that_changes_meanwhile_is_not_taken_for_the_one_that_was_checked(stub, tmp_path):
    source = write_lines(tmp_path / "in.jsonl", [{"text": ROSE}])
    answer = stub.probabilities

    def edited(texts, batch_size):
        write_lines(source, [{"text": ROSE}, {"text": ""}])
        return answer(texts, batch_size)

    stub.probabilities = edited
    with pytest.raises(InputError, match=r"in.jsonl: changed while it was scored; start again"):
        score_file(stub, source, tmp_path / "out.jsonl")
    assert not (tmp_path / "out.jsonl").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("in.parquet", b"PAR1 and no more", "not readable as Parquet"),
        ("in.jsonl", b"[" * 100_000 + b"\n", r"in.jsonl.*(not readable|not JSON)"),
        ("in.jsonl", b'{"text": %s}\n' % (b"9" * 5000), r"in.jsonl.*(not readable|not JSON)"),
        ("in.csv", "text\ncafé\n".encode("latin-1"), "in.csv: not UTF-8"),
        ("in.csv", b"id,text\n", "out.csv: is a folder"),
    ],
)
def test_a_file_that_cannot_be_read_or_written_is_one_line(stub, tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    if "is a folder" in message:
        (tmp_path / "out.csv").mkdir()
    with pytest.raises(InputError, match=message) as error:
        score_file(stub, tmp_path / name, tmp_path / "out.csv")
    assert "\n" not in str(error.value) and stub.calls == []


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(stub, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "ROWS", 1)
    source = write_lines(tmp_path / "in.jsonl", [{"text": ROSE}, {"text": FELL}])
    answer = stub.probabilities

    def full(texts, batch_size):
        if len(stub.calls) == 1:
            raise OSError(28, "No space left on device")
        return answer(texts, batch_size)

    stub.probabilities = full
    with pytest.raises(InputError, match="cannot be written: No space left on device"):
        score_file(stub, source, tmp_path / "out.jsonl")
    stub.probabilities = answer
    score_file(stub, source, tmp_path / "out.jsonl")
    assert stub.calls == [[ROSE], [FELL]]


def test_column_names_that_occur_twice_are_refused(stub, tmp_path):
    (tmp_path / "in.csv").write_text("text,n,n\n")
    with pytest.raises(InputError, match="a column name occurs twice: text, n, n"):
        score_file(stub, tmp_path / "in.csv", tmp_path / "out.parquet")
    pq.write_table(pa.Table.from_arrays([pa.array([ROSE])] * 2, names=["text", "text"]), tmp_path / "in.parquet")
    with pytest.raises(InputError, match="a column name occurs twice: text, text"):
        score_file(stub, tmp_path / "in.parquet", tmp_path / "out.parquet")
