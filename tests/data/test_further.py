"""Unlabelled and labelled texts from outside: every format, nothing that the splits hold, every bad file named."""

import json

import pandas as pd
import pytest
from conftest import LABELS

from fincompress.core.errors import InputError
from fincompress.data.further import read_extra, read_transfer, read_unlabelled
from fincompress.networks.batches import NO_LABEL, add_unlabelled, tokenise
from fincompress.networks.checkpoints import load_tokenizer

TEXTS = ["Sales rose.", "Sales fell.", "The board met."]


@pytest.fixture
def data(tmp_path):
    """A prepared folder with a text in each split."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, text, label in zip(("train", "val", "test"), TEXTS, ("positive", "negative", "neutral"), strict=True):
        pd.DataFrame({"text": [text], "label": [label]}).to_csv(folder / f"{name}.csv", index=False)
    return folder


def test_transfer_texts_join_the_training_rows_without_a_label(checkpoint, data, tmp_path):
    tokenizer = load_tokenizer(str(checkpoint))
    train_set = tokenise(pd.read_csv(data / "train.csv"), LABELS, tokenizer)
    (tmp_path / "texts/b").mkdir(parents=True)
    (tmp_path / "texts/README.md").write_text("What the folder is for.")
    (tmp_path / "texts/a.txt").write_text("Profit doubled.\n\n  THE board   met. \nCosts ran away.\n")
    (tmp_path / "texts/b/b.csv").write_text("date,text\n2020,Profit  doubled.\n2020,Nothing new\n")
    fresh = read_transfer(str(tmp_path / "texts"), data)
    joined = add_unlabelled(train_set, fresh, tokenizer)
    assert joined["labels"] == [LABELS.index("positive"), NO_LABEL, NO_LABEL, NO_LABEL]
    expected = tokenizer(["Sales rose.", "Profit doubled.", "Costs ran away.", "Nothing new"])["input_ids"]
    assert joined["input_ids"] == expected and joined["length"] == [len(ids) for ids in expected]
    assert joined.column_names == train_set.column_names


def test_a_folder_without_files_leaves_the_training_rows_as_they_are_and_scores_nothing(data, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/README.md").write_text("What the folder is for.")
    assert add_unlabelled("rows", read_transfer(str(tmp_path / "texts"), data), None) == "rows"
    assert read_extra(str(tmp_path / "texts"), LABELS, data) == {}


@pytest.mark.parametrize("suffix", [".txt", ".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_format_gives_the_same_texts(tmp_path, suffix):
    path, frame = tmp_path / f"texts{suffix}", pd.DataFrame({"text": TEXTS})
    if suffix == ".txt":
        path.write_text("\n".join(TEXTS))
    elif suffix == ".jsonl":
        path.write_text("\n".join(json.dumps({"text": text}) for text in TEXTS))
    elif suffix == ".parquet":
        frame.to_parquet(path)
    else:
        frame.to_csv(path, index=False, sep="\t" if suffix == ".tsv" else ",")
    assert read_unlabelled(path) == TEXTS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.txt", None, "not found"),
        ("empty.txt", b"\n \n", "no texts"),
        ("latin.txt", b"caf\xe9", "not UTF-8"),
        ("rows.csv", b"headline\nA\n", "line 2: no column `text`"),
        ("rows.docx", b"x", "unknown kind of file"),
    ],
)
def test_a_bad_file_is_named(tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as error:
        read_unlabelled(tmp_path / name)
    assert name in str(error.value)


def test_nothing_new_is_an_error(data, tmp_path):
    (tmp_path / "a.txt").write_text("sales  ROSE.\n")
    with pytest.raises(InputError, match=r"kd\.transfer: every text of .*a\.txt is in the prepared data"):
        read_transfer(str(tmp_path / "a.txt"), data)


def test_an_extra_set_keeps_what_the_splits_do_not_hold(data, tmp_path):
    (tmp_path / "tweets.csv").write_text("text,label\nUp we go,positive\nSALES fell.,negative\n")
    extra = read_extra(str(tmp_path / "tweets.csv"), LABELS, data)
    assert extra["tweets"][["text", "label"]].to_numpy().tolist() == [["Up we go", "positive"]]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("none.csv", r"none\.csv: not found \(evaluate\.extra\)"),
        ("bad.csv", r"line 2: unknown label 'great'; evaluate\.extra has negative, neutral, positive"),
        ("known.csv", r"every text is in the prepared data already"),
        ("test.csv", r"test is the name of a split"),
        ("both", r"two files are called fine"),
    ],
)
def test_an_extra_set_that_cannot_be_scored_is_named(data, tmp_path, monkeypatch, path, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "both/again").mkdir(parents=True)
    for name, row in {
        "bad": "A,great",
        "known": "Sales rose.,positive",
        "test": "A,positive",
        "both/fine": "A,positive",
        "both/again/fine": "B,positive",
    }.items():
        (tmp_path / f"{name}.csv").write_text(f"text,label\n{row}\n")
    with pytest.raises(InputError, match=message):
        read_extra(path, LABELS, data)
