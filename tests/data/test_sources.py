"""Reading people's files: every format alike, every bad row named."""

import json

import pandas as pd
import pytest

from fincompress.core.data_sections import FilesParams
from fincompress.core.errors import InputError
from fincompress.data.readers import COLUMNS, read_files
from fincompress.data.sources import read_embedded

ROWS = [("Profit rose", "good"), ("Sales, alas, fell", "bad"), ('He said "no"', "bad")]


def params(path, **changes) -> FilesParams:
    values = {"text_column": "text", "label_column": "label", "source_column": None, "phenomenon_column": None}
    return FilesParams(path=str(path), labels=["bad", "good"], **{**values, **changes})


def write(folder, suffix: str):
    frame = pd.DataFrame(ROWS, columns=["text", "label"])
    path = folder / f"rows{suffix}"
    if suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True)
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    return path


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_rows(tmp_path, suffix):
    frame = read_files(params(write(tmp_path, suffix)))
    assert list(frame.columns) == COLUMNS
    assert list(zip(frame["text"], frame["label"], strict=True)) == ROWS
    assert set(frame["source"]) == {"rows"} and frame["id"].is_unique


def test_a_folder_is_read_whole(tmp_path):
    write(tmp_path, ".csv")
    write(tmp_path, ".jsonl")
    (tmp_path / "notes.txt").write_text("not data")
    assert len(read_files(params(tmp_path))) == 2 * len(ROWS)


def test_labels_may_be_ids_or_names_in_any_case(tmp_path):
    (tmp_path / "rows.csv").write_text("text,label\na,0\nb,1\nc,GOOD\n")
    assert list(read_files(params(tmp_path / "rows.csv"))["label"]) == ["bad", "good", "good"]


def test_integer_labels_of_a_parquet_file_are_ids(tmp_path):
    pd.DataFrame({"text": ["a", "b"], "label": [1, 0]}).to_parquet(tmp_path / "rows.parquet")
    assert list(read_files(params(tmp_path / "rows.parquet"))["label"]) == ["good", "bad"]


def test_configured_columns_are_used(tmp_path):
    (tmp_path / "rows.csv").write_text("sentence,mood,site,tag\nUp,good,web,plain\n")
    chosen = params(
        tmp_path / "rows.csv",
        text_column="sentence",
        label_column="mood",
        source_column="site",
        phenomenon_column="tag",
    )
    assert read_files(chosen).iloc[0].tolist()[1:] == ["Up", "good", "web", "plain"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (
            "rows.csv",
            "text,label\na,good\nb,awful\n",
            "line 3: unknown label 'awful'; prepare.files.labels has bad, good",
        ),
        ("rows.csv", "text,label\na,good\nb,2\n", "line 3: unknown label '2'"),
        ("rows.csv", "text,label\na,b,good\n", "line 2: 3 fields where the header has 2"),
        ("rows.csv", "text,label\n  ,good\n", "line 2: empty text"),
        ("rows.csv", 'text,label\n"a,good\n', "line 2"),
        (
            "rows.csv",
            "text,mood\na,good\n",
            "line 2: no column `label` (prepare.files.label_column); columns found: text, mood",
        ),
        ("rows.csv", "text,text\na,good\n", "a column name occurs twice"),
        ("rows.csv", "text,label\n", "no rows"),
        ("rows.csv", "", "no rows"),
        ("rows.jsonl", '{"text": "a", "label": "good"}\n{"text": ', "line 2: not JSON"),
        ("rows.jsonl", "[1]\n", "line 1: expected an object"),
        ("rows.parquet", "not parquet", "not readable as Parquet"),
        ("rows.xlsx", "x", "unknown kind of file"),
    ],
)
def test_a_bad_file_is_named_with_its_row(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as error:
        read_files(params(tmp_path / name))
    assert message in str(error.value) and name in str(error.value)


def test_text_that_is_not_utf8_is_named(tmp_path):
    (tmp_path / "rows.csv").write_bytes("text,label\ncaf\xe9,good\n".encode("latin-1"))
    with pytest.raises(InputError, match="not UTF-8"):
        read_files(params(tmp_path / "rows.csv"))


def test_a_missing_path_names_its_key(tmp_path):
    with pytest.raises(InputError, match=r"not found \(prepare\.files\.path\)"):
        read_files(params(tmp_path / "none.csv"))


def test_a_folder_without_data_is_an_error(tmp_path):
    with pytest.raises(InputError, match="holds no"):
        read_files(params(tmp_path))


def test_the_embedded_corpus_is_whole():
    frame = read_embedded()
    assert list(frame.columns) == COLUMNS
    assert frame["label"].value_counts().to_dict() == {"positive": 2990, "neutral": 2723, "negative": 2644}
    assert frame["phenomenon"].nunique() == 10 and frame["source"].nunique() == 8
    assert frame["id"].tolist() == [str(number) for number in range(1, 8358)] and not frame["text"].duplicated().any()


def test_json_numbers_and_missing_values(tmp_path):
    lines = [{"text": "a", "label": 1}, {"text": None, "label": 1}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, lines)))
    with pytest.raises(InputError, match="line 2: empty text"):
        read_files(params(tmp_path / "rows.jsonl"))
