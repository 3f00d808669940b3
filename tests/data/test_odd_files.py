"""Files as people have them: read as they are meant, or refused in one line."""

import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML
from test_fuzz import params

from fincompress.core.data_sections import PhrasebankParams, PrepareParams
from fincompress.core.errors import InputError
from fincompress.data.financial import read_phrasebank
from fincompress.data.further import read_unlabelled
from fincompress.data.readers import read_files
from fincompress.data.splits import clean_own_splits, split


def read(tmp_path, name: str, content: bytes, **changes) -> list[list[str]]:
    (tmp_path / name).write_bytes(content)
    return read_files(params(tmp_path / name, **changes))[["text", "label"]].to_numpy().tolist()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.tsv", b'text\tlabel\n"Buy" says analyst\tgood\n', [['"Buy" says analyst', "good"]]),
        ("c.tsv", b'text\tlabel\nShares at 5" high\tgood\n', [['Shares at 5" high', "good"]]),
        (
            "d.tsv",
            b'text\tlabel\n"Best\tgood\nSales\tbad\n"Worst" q\tbad\n',
            [['"Best', "good"], ["Sales", "bad"], ['"Worst" q', "bad"]],
        ),
        ("u.csv", b"text,label,,\nSales rose.,good,,\n", [["Sales rose.", "good"]]),
        ("s.jsonl", b'{"text": "up \\ud83d", "label": "good"}\n', [["up \ufffd", "good"]]),
        ("long.csv", b"text,label\n" + b"x" * 150_000 + b",good\n", [["x" * 150_000, "good"]]),
    ],
)
def test_odd_cells_are_read_as_they_are_meant(tmp_path, name, content, expected):
    assert read(tmp_path, name, content) == expected


def test_rows_of_a_tsv_file_are_never_merged(tmp_path):
    with pytest.raises(InputError, match="lines 2 to 3: the quotation marks"):
        read(tmp_path, "b.tsv", b'text\tlabel\n"A\tgood\nB"\tbad\n')


def test_numbers_are_names_where_labels_are_numbers(tmp_path):
    for names in (["1", "2"], ["2", "1"]):
        content = b"text,label\nBad.,1.0\nGood.,2.0\n"
        (tmp_path / "rows.csv").write_bytes(content)
        chosen = params(tmp_path / "rows.csv").model_copy(update={"labels": names})
        assert read_files(chosen)["label"].tolist() == ["1", "2"]


def test_a_headerless_latin1_file_is_read_by_place(tmp_path):
    content = 'good,"Käyttö stable."\nbad,"Profit fell."\n'.encode("latin-1")
    places = {"header": False, "text_column": 1, "label_column": 0}
    assert read(tmp_path, "all.csv", content, encoding="cp1252", **places) == [
        ["Käyttö stable.", "good"],
        ["Profit fell.", "bad"],
    ]
    with pytest.raises(InputError, match=r"set prepare\.files\.encoding \(it may be cp1252\)"):
        read(tmp_path, "all.csv", content, **places)


def test_ids_and_sources_come_from_the_path_below_the_folder_and_empty_files_are_skipped(tmp_path):
    for name in ("2023/news.csv", "2024/news.csv", "rows.csv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"text,label\n{name},good\n")
    (tmp_path / "rows.jsonl").write_text('{"text": "b", "label": "bad"}\n')
    pd.DataFrame({"text": pd.Series([], dtype=str), "label": pd.Series([], dtype=str)}).to_parquet(
        tmp_path / "none.parquet"
    )
    frame = read_files(params(tmp_path))
    assert frame["id"].tolist() == ["2023/news-2", "2024/news-2", "rows.csv-2", "rows.jsonl-1"]
    assert frame["source"].nunique() == 4


@pytest.mark.parametrize("start", [b"", b"\xef\xbb\xbf"])
def test_phrasebank_in_utf8_is_read_as_written(tmp_path, start):
    (tmp_path / "Sentences_AllAgree.txt").write_bytes(start + "Käyttökate nousi.@positive\n".encode())
    chosen = PhrasebankParams(path=str(tmp_path), repository="a/b", revision="main", agreement="all")
    assert read_phrasebank(chosen)[0]["text"].tolist() == ["Käyttökate nousi."]


def test_text_files_are_parted_at_line_ends_alone(tmp_path):
    (tmp_path / "in.txt").write_bytes("A\u2028B\r\nC\u0085D\rE\x0cF\n".encode())
    assert read_unlabelled(tmp_path / "in.txt") == ["A B", "C D", "E F"]


def test_own_splits_are_kept_and_no_text_is_in_two(tmp_path):
    content = "text,label,part\na,good,train\nb,bad,train\nA,good,test\nc,bad,validation\n"
    (tmp_path / "rows.csv").write_text(content)
    kept, dropped = clean_own_splits(read_files(params(tmp_path / "rows.csv", split_column="part")))
    assert dropped == {"conflicting": 0, "duplicates": 1, "across_splits": 1}
    assert kept[["text", "split"]].to_numpy().tolist() == [["b", "train"], ["A", "test"], ["c", "val"]]


def test_rows_of_a_group_stay_in_one_split():
    values = YAML(typ="safe").load(ROOT / "params.yaml")["prepare"]
    frame = pd.DataFrame({"text": [f"t{row}" for row in range(300)], "id": [str(row) for row in range(300)]})
    frame = frame.assign(
        label=["bad", "good"] * 150, source="s", phenomenon="", group=[str(row // 5) for row in range(300)]
    )
    parts = split(frame, ["bad", "good"], PrepareParams(**values), 0)
    assert sum(len(part) for part in parts.values()) == 300
    assert sum(part["group"].nunique() for part in parts.values()) == 60
    assert len(parts["test"]) == pytest.approx(90, abs=10) and len(parts["val"]) == pytest.approx(36, abs=10)
