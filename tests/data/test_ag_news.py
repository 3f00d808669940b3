"""AG News from files in either form: cleaned, split off its own test rows, every bad row named."""

import json

import pandas as pd
import pytest

from fincompress.core.data_sections import AgNewsParams
from fincompress.core.errors import InputError
from fincompress.core.sections import AG_NEWS_LABELS
from fincompress.data.ag_news import mend, read_ag_news
from fincompress.data.prepared import normalise
from fincompress.data.sources import read_source
from fincompress.data.splits import clean, split_training, without

OFFICIAL = '"3","Oil falls","Prices fell \\on Monday; the world #39;s demand is weak."\n"2","Final",""\n'


def params(path, **changes) -> AgNewsParams:
    values = {"path": str(path), "repository": "fancyzhx/ag_news", "revision": "main", "val": 0.2}
    return AgNewsParams(source="ag_news", **{**values, "max_train_rows": None, **changes})


def write(folder, train: str = OFFICIAL, test: str = '"1","Vote","Polls open"\n'):
    (folder / "train.csv").write_text(train, encoding="utf-8")
    (folder / "test.csv").write_text(test, encoding="utf-8")
    return folder


def test_the_official_files_give_texts_of_title_and_description(tmp_path):
    train, test, origins = read_ag_news(params(write(tmp_path)))
    assert train["text"].tolist() == ["Oil falls Prices fell on Monday; the world's demand is weak.", "Final"]
    assert train["label"].tolist() == ["Business", "Sports"] and test["label"].tolist() == ["World"]
    assert set(train["source"]) == {"ag_news"} and train["id"].is_unique
    assert set(origins["ag_news"]["files"]) == {"train.csv", "test.csv"}


def test_files_with_columns_text_and_label_are_read_too(tmp_path):
    train, _, _ = read_ag_news(params(write(tmp_path, train="text,label,src\nRates rise,2,a\nGoal,Sports,b\n")))
    assert train["label"].tolist() == ["Business", "Sports"] and set(train["source"]) == {"ag_news"}


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        ("the world #39;s  quot;best quot; AT amp;T", 'the world\'s "best " AT &T'),
        ("costs #36;5, \\$6 or &lt;b&gt;7&lt;/b&gt;", "costs $5, $6 or 7"),
        ('see <A HREF="http://x.y/q?a=b">GOOG.O</A> now', "see GOOG.O now"),
        ("one\\two\\nthree", "one two three"),
        ("R&D and AT&amp;T at 3 < 4", "R&D and AT&T at 3 < 4"),
    ],
)
def test_what_html_left_is_mended(raw, mended):
    assert mend(raw) == mended


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (
            '"5","a","b"\n',
            r"train.csv, line 1: unknown class '5'; expected 1 to 4 \(World, Sports",
        ),
        ('"1","a","b"\n"2","a"\n', r"train.csv, line 2: 2 fields where .* has 3"),
        ('"1","",""\n', r"train.csv, line 1: empty text"),
        ("text,label\nA,9\n", r"train.csv, line 2: unknown label '9'"),
        ("words,label\nA,1\n", r"train.csv, line 2: no column `text` \(prepare.path\)"),
        ("", r"train.csv: no rows"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path, train, message):
    with pytest.raises(InputError, match=message):
        read_ag_news(params(write(tmp_path, train=train)))


def test_a_missing_file_is_named_with_the_mend(tmp_path):
    with pytest.raises(InputError, match=r"train.csv: not found \(prepare.path\); null downloads the data set"):
        read_source(params(tmp_path))


def many(count: int, start: int = 0) -> pd.DataFrame:
    rows = [(f"t-{i}", f"text {i}", AG_NEWS_LABELS[i % 4], "ag_news", "") for i in range(start, start + count)]
    return pd.DataFrame(rows, columns=["id", "text", "label", "source", "phenomenon"])


def test_validation_is_held_out_by_label_and_the_sample_is_stratified_and_seeded():
    data = many(400)
    parts = split_training(data, AG_NEWS_LABELS, params(".", max_train_rows=100), seed=1)
    assert {name: len(part) for name, part in parts.items()} == {"train": 80, "val": 20}
    for part in parts.values():
        assert part["label"].value_counts().nunique() == 1
    assert not set(parts["train"]["id"]) & set(parts["val"]["id"])
    again = split_training(data, AG_NEWS_LABELS, params(".", max_train_rows=100), seed=1)
    assert all(parts[name].equals(again[name]) for name in parts)
    assert not parts["val"].equals(split_training(data, AG_NEWS_LABELS, params(".", max_train_rows=100), seed=2)["val"])


def test_too_few_rows_for_both_sides_is_one_clear_error():
    with pytest.raises(InputError, match=r"label `World` has 1 training rows.*prepare.max_train_rows"):
        split_training(many(400), AG_NEWS_LABELS, params(".", max_train_rows=4), seed=1)


def test_no_training_text_is_a_test_text():
    test = many(10)
    training = without(many(30), test.assign(text=test["text"].str.upper()))
    assert len(training) == 20 and not set(training["text"].map(normalise)) & set(test["text"].map(normalise))


def test_prepare_keeps_the_official_test_rows_whole(tmp_path, monkeypatch):
    from conftest import ROOT

    from stages import prepare

    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "ag_news"
    folder.mkdir()
    numbers = {label: number for number, label in enumerate(AG_NEWS_LABELS, start=1)}
    rows = many(60)
    lines = [f'"{numbers[row.label]}","{row.text}","about {row.id}"\n' for row in rows.itertuples()]
    write(folder, train="".join([*lines, lines[7], '"1","text 3","about t-3"\n']), test="".join([lines[0], *lines[:6]]))
    (tmp_path / "params.yaml").write_text((ROOT / "recipes/distilbert-agnews/params.yaml").read_text())
    prepare.main()
    about = json.loads((tmp_path / "metrics/about/data.json").read_text())
    assert about["rows"] == {"all": 60, "train": 48, "val": 5, "test": 7} or about["rows"]["test"] == 7
    assert about["dropped"] == {"conflicting": 2, "duplicates": 1, "in_test": 5}
    test = pd.read_csv(tmp_path / "data/test.csv")
    assert test["text"].tolist()[:2] == ["text 0 about t-0"] * 2  # as published, a repeated row included
    assert len(clean(rows)[0]) == 60
