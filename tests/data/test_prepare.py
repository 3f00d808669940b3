"""The stage `prepare` on one's own files: splits as they come, groups that stay together, nothing of others lost."""

from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from fincompress.core.errors import InputError
from stages import prepare

LABELS = ["bad", "good"]


@pytest.fixture
def prepared(tmp_path, monkeypatch):
    """Runs the stage on `rows.csv`, or the folder `rows`, and returns the splits by name."""
    monkeypatch.chdir(tmp_path)

    def run(path: str, **changes) -> dict[str, pd.DataFrame]:
        yaml = YAML()
        content = yaml.load(ROOT / "params.yaml")
        content["prepare"]["source"] = "files"
        content["evaluate"]["opposite_labels"] = None
        content["prepare"]["files"].update({"path": path, "labels": LABELS, **changes})
        with Path("params.yaml").open("w", encoding="utf-8") as file:
            yaml.dump(content, file)
        prepare.main(Path("data"), Path("about.json"))
        return {name: pd.read_csv(f"data/{name}.csv", dtype=str) for name in ("train", "val", "test")}

    return run


def rows(count: int, name: str) -> pd.DataFrame:
    return pd.DataFrame({"text": [f"{name} {number}" for number in range(count)], "label": LABELS * (count // 2)})


def test_rows_stay_in_the_split_that_they_come_with_and_no_text_is_in_two(prepared, capsys):
    parts = {"train": rows(20, "a"), "dev": rows(6, "b"), "test": rows(8, "c")}
    frame = pd.concat([part.assign(part=name) for name, part in parts.items()])
    leaked = pd.DataFrame({"text": ["C  0", "b 1"], "label": ["bad", "good"], "part": "train"})
    pd.concat([leaked, frame]).to_csv("rows.csv", index=False)
    splits = prepared("rows.csv", split_column="part")
    assert {name: len(part) for name, part in splits.items()} == {"train": 20, "val": 6, "test": 8}
    assert list(splits["test"]["text"]) == list(parts["test"]["text"])
    assert not {"c 0", "b 1"} & set(splits["train"]["text"].str.casefold())
    assert "2 of the duplicates from other splits" in capsys.readouterr().out
    assert list(splits["train"].columns) == ["id", "text", "label", "source", "phenomenon"]


def test_files_of_a_folder_can_be_the_splits(prepared):
    Path("rows").mkdir()
    for name, count in (("train-1", 10), ("train-2", 4), ("validation", 4), ("test", 6)):
        rows(count, name).to_json(f"rows/{name}.jsonl", orient="records", lines=True)
    splits = prepared("rows", files_are_splits=True)
    assert {name: len(part) for name, part in splits.items()} == {"train": 14, "val": 4, "test": 6}
    assert set(splits["train"]["source"]) == {"train-1", "train-2"}
    (Path("rows") / "more.csv").write_text("text,label\nx,good\n")
    with pytest.raises(InputError, match=r"more\.csv: its name begins with none of train, val and test"):
        prepared("rows", files_are_splits=True)


def test_an_unknown_split_is_named_with_its_row(prepared):
    Path("rows.csv").write_text("text,label,part\na,good,train\nb,bad,holdout\n")
    with pytest.raises(InputError, match=r"rows\.csv, line 3: .*holdout"):
        prepared("rows.csv", split_column="part")
    assert not Path("data").exists()


def test_rows_of_a_document_stay_together(prepared):
    rows(300, "s").assign(document=[f"d{number // 6}" for number in range(300)]).to_csv("rows.csv", index=False)
    splits = prepared("rows.csv", group_column="document")
    documents = {name: set(part["text"].str.split().str[1].astype(int) // 6) for name, part in splits.items()}
    assert sum(map(len, documents.values())) == 50 == len(set.union(*documents.values()))


def test_a_file_that_the_stage_did_not_make_is_neither_lost_nor_taken_in(prepared):
    rows(100, "s").to_csv("rows.csv", index=False)
    prepared("rows.csv")
    before = Path("data/train.csv").read_bytes()
    Path("data/notes.txt").write_text("mine")
    rows(200, "t").to_csv("rows.csv", index=False)
    with pytest.raises(InputError, match=r"data/notes\.txt: not made by `prepare`"):
        prepared("rows.csv")
    assert Path("data/notes.txt").read_text() == "mine" and Path("data/train.csv").read_bytes() == before
