"""`fincompress doctor` with a model or a file of texts: what it is, and what stands in the way."""

import json
from pathlib import Path

import pytest
import torch
from conftest import LABELS, make_checkpoint
from odd_checkpoints import (
    POINTER,
    copied,
    edit,
    in_parts,
    reweighted,
    with_older_tokenizer,
    with_older_weights,
    with_python_tokenizer,
)
from random_classifiers import CONFIGS, classifier
from typer.testing import CliRunner

from fincompress.cli.findings import Finding
from fincompress.cli.inspect_data import examine_file
from fincompress.cli.inspect_model import examine_model
from fincompress.cli.main import app
from fincompress.core.errors import InputError
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model
from fincompress.runtimes.bag_of_words import BagOfWords
from fincompress.runtimes.convert import to_onnx, to_openvino


def of(findings: list[Finding]) -> dict[str, Finding]:
    return {finding.what: finding for finding in findings}


def mends(findings: list[Finding]) -> dict[str, str]:
    """What is to be mended."""
    return {finding.what: finding.mend for finding in findings if finding.mend}


def test_a_good_checkpoint_is_described_and_nothing_is_to_be_mended(checkpoint):
    findings = examine_model(checkpoint)
    assert mends(findings) == {}
    found = {what: finding.found for what, finding in of(findings).items()}
    millions = sum(tensor.numel() for tensor in load_model(str(checkpoint)).parameters()) / 1e6
    assert found["kind"].startswith("a checkpoint of transformers for PyTorch, 0.2 MB")
    assert found["architecture"] == "bert, 4 layers, 4 heads, 32 wide, 64 neurons a layer"
    assert found["weights"] == f"{millions:.2f} million parameters (F32), safetensors"
    assert found["labels"] == "negative, neutral, positive"
    assert found["longest text"] == "64 word pieces; positions for 64"
    assert found["tokenizer"] == "WordPiece, 600 word pieces, tokenizer.json"


@pytest.mark.parametrize("model_type", CONFIGS)
def test_every_architecture_has_its_layers_and_heads(checkpoint, tmp_path, model_type):
    folder = copied(checkpoint, tmp_path / "odd")
    classifier(model_type).save_pretrained(folder)
    findings = examine_model(folder)
    assert of(findings)["architecture"].found == f"{model_type}, 3 layers, 4 heads, 32 wide, 64 neurons a layer"
    assert mends(findings) == {}


def test_an_encoder_is_no_fault(checkpoint, tmp_path):
    folder = reweighted(checkpoint, tmp_path / "odd", lambda w: {n: t for n, t in w.items() if "classifier" not in n})
    edit(folder / "config.json", architectures=["BertModel"])
    findings = examine_model(folder)
    assert of(findings)["labels"].found.startswith("none: an encoder") and mends(findings) == {}


@pytest.mark.parametrize(
    ("change", "what", "mend"),
    [
        (with_python_tokenizer, "tokenizer", "BertweetTokenizer, runs in Python alone"),
        (lambda folder: edit(folder / "config.json", model_type="gpt2"), "architecture", "`gpt2` is not supported"),
        (lambda folder: (folder / "config.json").write_text("{"), "architecture", "config.json: not JSON"),
        (
            lambda folder: edit(folder / "config.json", problem_type="multi_label_classification"),
            "problem type",
            "fine-tune it (teacher.epochs over 0)",
        ),
        (
            lambda folder: edit(folder / "config.json", num_hidden_layers=5),
            "weights",
            "its weights lack bert.encoder.layer.4",
        ),
        (
            lambda folder: edit(folder / "config.json", id2label={"0": "LABEL_0", "1": "LABEL_1", "2": "LABEL_2"}),
            "labels",
            "teacher.label_map: {LABEL_0: a label of yours}",
        ),
        (lambda folder: (folder / "model.safetensors").write_bytes(POINTER), "weights", "git lfs pull"),
        (lambda folder: (folder / "tokenizer.json").write_bytes(POINTER), "tokenizer", "git lfs pull"),
        (lambda folder: (folder / "tokenizer.json").unlink(), "tokenizer", "no vocabulary there"),
    ],
)
def test_what_stands_in_the_way_is_named_with_its_mend(checkpoint, tmp_path, change, what, mend):
    folder = copied(checkpoint, tmp_path / "odd")
    change(folder)
    findings = examine_model(folder)
    assert list(mends(findings)) == [what] and mend in mends(findings)[what]


def test_a_tokenizer_of_another_model_is_named(checkpoint, tmp_path):
    folder = copied(checkpoint, tmp_path / "odd")
    file = folder / "tokenizer.json"
    content = json.loads(file.read_text())
    content["model"]["vocab"]["astray"] = 600
    file.write_text(json.dumps(content))
    assert mends(examine_model(folder)) == {
        "tokenizer": "the model has embeddings for 600 alone: fetch the tokenizer made for it"
    }


@pytest.mark.parametrize(
    ("change", "what", "found"),
    [
        (with_older_weights, "weights", "(float32), PyTorch's older format, read by its weights-only loader"),
        (in_parts, "weights", "(F32), safetensors in parts"),
        (with_older_tokenizer, "tokenizer", "WordPiece, 600 word pieces, an older kind of vocabulary"),
    ],
)
def test_older_forms_are_told_and_are_no_fault(checkpoint, tmp_path, change, what, found):
    folder = copied(checkpoint, tmp_path / "odd")
    change(folder)
    findings = examine_model(folder)
    assert found in of(findings)[what].found and mends(findings) == {}


@pytest.mark.parametrize("convert", [to_onnx, to_openvino])
def test_a_converted_model_is_opened(checkpoint, tmp_path, convert):
    convert(checkpoint, tmp_path / "converted")
    findings = examine_model(tmp_path / "converted")
    assert of(findings)["kind"].found.startswith("a converted model for O") and mends(findings) == {}
    assert of(findings)["opens"].found.startswith("yes, with 3 labels")
    for file in (*tmp_path.glob("converted/*.onnx"), *tmp_path.glob("converted/*.bin")):
        file.write_bytes(file.read_bytes()[:500])
    assert "fetch" in mends(examine_model(tmp_path / "converted"))["opens"]


def test_a_bag_of_words_is_a_model_too(tmp_path):
    BagOfWords.fit(read_embedded().head(200), LABELS).save(tmp_path / "bag")
    assert of(examine_model(tmp_path / "bag"))["opens"].found.startswith("yes, with 3 labels")


def test_the_command_shows_it_and_its_exit_code_says_whether_all_is_well(checkpoint, tmp_path):
    shown = CliRunner().invoke(app, ["doctor", str(checkpoint)])
    assert shown.exit_code == 0 and "4 layers" in shown.stdout
    odd = make_checkpoint(tmp_path / "odd", labels=["LABEL_0", "LABEL_1"])
    shown = CliRunner().invoke(app, ["doctor", str(odd)])
    assert shown.exit_code == 1 and "label_map" in shown.stdout
    assert "384 wide" in " ".join(CliRunner().invoke(app, ["doctor", "minilm"]).stdout.split())
    torch.save({}, tmp_path / "weights.pt")
    with pytest.raises(InputError, match="neither a model folder nor a file of texts"):
        CliRunner().invoke(app, ["doctor", str(tmp_path / "weights.pt")], catch_exceptions=False)


ROWS = [("Profit rose.", "up")] * 6 + [('Loss, and "more"', "down")] * 6


def write(folder: Path, suffix: str, rows: list[tuple[str, str]], names: tuple[str, str]) -> Path:
    import pandas as pd

    frame, file = pd.DataFrame([(f"{n} {text}", label) for n, (text, label) in enumerate(rows)], columns=names), folder
    file = folder / f"rows{suffix}"
    if suffix == ".parquet":
        frame.to_parquet(file)
    elif suffix == ".jsonl":
        frame.to_json(file, orient="records", lines=True)
    else:
        frame.to_csv(file, index=False, sep="\t" if suffix == ".tsv" else ",")
    return file


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("names", [("Headline", "Sentiment"), ("a", "b")])
def test_a_file_of_texts_is_described(tmp_path, suffix, names):
    findings = examine_file(write(tmp_path, suffix, ROWS, names))
    found = {what: finding.found for what, finding in of(findings).items()}
    assert mends(findings) == {}
    assert found["rows"] == "12" and found["columns"] == ", ".join(names)
    assert found["text column"] == f"{names[0]} (a guess)" and found["label column"] == f"{names[1]} (a guess)"
    assert found["labels"] == "2: up 6, down 6" and found["longest text"] == "4 words, 19 characters"
    assert found.get("encoding") == (None if suffix == ".parquet" else "UTF-8")


@pytest.mark.parametrize(
    ("content", "what", "mend"),
    [
        (b"", "kind", "empty; fetch it again"),
        (POINTER, "kind", "git lfs pull"),
        ("text,label\nKäyttö,a\n".encode("latin-1"), "encoding", "iconv -f latin1 -t utf-8"),
        ("text,label\nKäyttö,a\n".encode("utf-16"), "encoding", "iconv -f utf-16 -t utf-8"),
        (b'text,label\n"open,a\n', "rows", "rows.csv, line 2"),
        (b"text\none\ntwo\nthree\n", "label column", "prepare.files.label_column"),
        (
            b"text,label\n" + b"one,a\ntwo,a\nthree,a\nfour,a\nfive,a\nsix,b\n",
            "labels",
            "too few rows for one each in train",
        ),
        (b"text,label\n" + b"one,a\ntwo,a\nthree,a\nfour,a\nfive,a\n", "labels", "needs two labels at least"),
        (b"text,label\n" + b",a\n" + b"one,a\ntwo,b\n" * 6, "texts", "1 are empty"),
        (b"text,label\n" + b"one,\n" + b"one,a\ntwo,b\n" * 6, "labels", "1 rows have none"),
        (b"up,Profit rose.\n" + b"up,Profit\ndown,Loss\n" * 6, "columns", "the first line looks like a row"),
    ],
)
def test_what_stands_in_the_way_of_learning_from_a_file_is_named(tmp_path, content, what, mend):
    (tmp_path / "rows.csv").write_bytes(content)
    assert mend in mends(examine_file(tmp_path / "rows.csv"))[what]


def test_a_byte_order_mark_and_plain_lines_are_told(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\xef\xbb\xbftext,label\n" + b"one,a\ntwo,b\n" * 6)
    findings = examine_file(tmp_path / "rows.csv")
    assert of(findings)["encoding"].found == "UTF-8 with a byte order mark" and mends(findings) == {}
    (tmp_path / "lines.txt").write_text("Profit rose.\nLoss.\nLoss.\n")
    findings = examine_file(tmp_path / "lines.txt")
    assert of(findings)["texts"].found == "3, 1 of them again" and mends(findings) == {}


def test_a_file_that_is_split_by_the_projects_shares_is_judged_by_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("rows.csv").write_bytes(b"text,label\n" + b"one,a\ntwo,b\nthree,a\nfour,b\n")
    assert "too few rows" in mends(examine_file(Path("rows.csv")))["labels"]
    Path("params.yaml").write_text("prepare: {split: {val: 0.4, test: 0.3}}\n")
    Path("rows.csv").write_bytes(b"text,label\n" + b"one,a\ntwo,b\nthree,a\nfour,b\n" * 2)
    assert mends(examine_file(Path("rows.csv"))) == {}
