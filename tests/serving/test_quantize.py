"""A fine-tuned checkpoint to int8 in one step: it works alone, its card says the truth, mistakes cost no time."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LABELS, make_checkpoint, make_tokenizer
from random_classifiers import CONFIGS, REMOVED
from safetensors.torch import load_file, save_file
from sklearn.metrics import f1_score
from trained_tokenizers import byte_level_bpe
from transformers import AutoModelForSequenceClassification, BertConfig, BertModel, RobertaConfig
from typer.testing import CliRunner

from fincompress.cli.main import app
from fincompress.core.errors import InputError
from fincompress.core.files import read_json, write_json
from fincompress.data.sources import read_embedded
from fincompress.networks import structure
from fincompress.runtimes.convert import to_onnx
from fincompress.serving import quantize as quantizing
from fincompress.serving.classifier import load_classifier
from fincompress.serving.export import export
from fincompress.serving.quantize import Request, choose_texts, quantize

NEWS = ["World", "Sports", "Business", "Sci/Tech"]
TEXTS = read_embedded()["text"].tail(80).tolist()
LONG = " ".join(TEXTS)


def sharp(config):
    """A random classifier whose answers differ from text to text, as weights of scale 0.02 would not make them."""
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=0.3)
    return model


def names(labels: list[str]) -> dict[str, dict]:
    """The keys of a configuration that name the outputs."""
    return {"id2label": dict(enumerate(labels)), "label2id": {name: index for index, name in enumerate(labels)}}


def agnews_bert(folder: Path) -> None:
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    tokenizer = make_tokenizer()
    sharp(BertConfig(vocab_size=len(tokenizer), max_position_embeddings=64, **shape, **names(NEWS))).save_pretrained(
        folder
    )
    tokenizer.save_pretrained(folder)
    set_length(folder, 48)


def roberta(folder: Path) -> None:
    """The real one's shape: byte-level BPE, padding with id 1, 514 positions of which two have no word piece."""
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    tokenizer = byte_level_bpe()
    shape |= {"vocab_size": len(tokenizer), "max_position_embeddings": 514, "type_vocab_size": 1, "pad_token_id": 1}
    sharp(RobertaConfig(**shape, **names(LABELS))).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    set_length(folder, 512)


def pruned(folder: Path) -> None:
    model = sharp(type(CONFIGS["distilbert"])(**CONFIGS["distilbert"].to_diff_dict() | names(LABELS)))
    structure.remove(model, REMOVED)
    model.save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    set_length(folder, 48)


def set_length(folder: Path, pieces: int) -> None:
    config = folder / "tokenizer_config.json"
    write_json(config, read_json(config) | {"model_max_length": pieces})


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Path]:
    """Fine-tuned checkpoints of unlike kinds, by the name of what makes them."""
    folder = tmp_path_factory.mktemp("sources")
    for make in (agnews_bert, roberta, pruned):
        make(folder / make.__name__)
    return {make.__name__: folder / make.__name__ for make in (agnews_bert, roberta, pruned)}


def labelled(folder: Path, source: Path, wrong: int = 8) -> Path:
    """A file of texts with the source's own labels, of which some are replaced by another of its labels."""
    model = load_classifier(source, threads=1)
    labels = [answer.label for answer in model(TEXTS)]
    for row in range(wrong):
        labels[row] = next(name for name in model.labels if name != labels[row])
    file = folder / "labelled.csv"
    pd.DataFrame({"headline": TEXTS, "topic": labels}).to_csv(file, index=False)
    return file


COLUMNS = ["--text-column", "headline", "--label-column", "topic"]


@pytest.mark.parametrize("kind", ["onnx", "openvino"])
@pytest.mark.parametrize("name", ["agnews_bert", "roberta", "pruned"])
def test_any_classifier_becomes_a_folder_that_works_alone_with_a_card_that_says_how_it_differs(
    sources, tmp_path, monkeypatch, name, kind
):
    monkeypatch.chdir(tmp_path)  # without a project
    source = sources[name]
    check = labelled(tmp_path, source)
    command = ["quantize", str(source), "out", "--format", kind, "--check", str(check), *COLUMNS, "--max-f1-drop", "1"]
    ended = CliRunner().invoke(app, command, catch_exceptions=False)
    assert ended.exit_code == 0 and sorted(path.name for path in tmp_path.iterdir()) == ["labelled.csv", "out"]
    moved = Path("out").rename("moved")
    before, after = (load_classifier(folder, threads=1) for folder in (source, moved))
    assert after.labels == before.labels == (NEWS if name == "agnews_bert" else LABELS)
    expected, found = before.probabilities(TEXTS), after.probabilities(TEXTS)
    same = int((expected.argmax(axis=1) == found.argmax(axis=1)).sum())
    assert same >= 60, "int8 is near its source"
    card = (moved / "README.md").read_text(encoding="utf-8")
    for said in (card, ended.stdout):
        counted, share, largest = re.search(
            r"(\d+) of 80 texts \(([\d.]+) %\) get the same label, and no probability changes by more than (\d\S*\d)",
            said.replace("\n", " "),
        ).groups()
        assert int(counted) == same and float(share) == pytest.approx(100 * same / 80, abs=0.1)
        assert 0.999 <= float(largest) / np.abs(found - expected).max() < 1.1, "rounded up, or it would be no bound"
    truth = pd.read_csv(check)["topic"].to_numpy()
    scores = [
        f1_score(truth, np.array(before.labels)[answers.argmax(axis=1)], labels=np.unique(truth), average="macro")
        for answers in (expected, found)
    ]
    assert f"| macro F1 | {scores[0]:.3f} | {scores[1]:.3f} | {100 * (scores[1] - scores[0]):+.1f} [" in card
    assert f"macro F1: {scores[0]:.3f} before, {scores[1]:.3f} after; " in ended.stdout
    assert ", ".join(before.labels) in card and "These were texts of labelled.csv." in card
    assert ("FinCompress's own (English, mostly financial)" in card) == (kind == "openvino")
    assert after(LONG).label in after.labels, "a text beyond the model's length is cut"
    given = CliRunner().invoke(app, ["predict", "--model", "moved", "--json", *TEXTS[:3]])
    assert [json.loads(line)["probabilities"] for line in given.stdout.splitlines()] == [
        answer.probabilities for answer in after(TEXTS[:3])
    ]


def test_a_model_that_loses_more_than_is_allowed_ends_with_1_and_is_not_written(sources, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    check = labelled(tmp_path, sources["agnews_bert"], wrong=0)
    lossy = ["--embedding-group", "16"]
    command = ["quantize", str(sources["agnews_bert"]), "out", "--check", str(check), *COLUMNS, *lossy]
    ended = CliRunner().invoke(app, command, catch_exceptions=False)
    assert ended.exit_code == 1 and "macro F1: 1.000 before, 0." in ended.stdout
    assert "out: not written, as int8 loses more macro F1 than --max-f1-drop 0.01" in ended.stderr
    assert "a smaller --embedding-group" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["labelled.csv"]


def test_without_files_the_embedded_corpus_is_compared_on_and_the_card_says_so(sources, tmp_path):
    result = quantize(Request(sources["agnews_bert"], "onnx", embedding_group=0), tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text(encoding="utf-8")
    assert len(result.texts.compared) == 500 and result.check is None
    assert "which may be unlike your texts" in card and "nothing is known of its macro F1" in card
    assert "nothing was calibrated" in card and "embeddings are codes" not in card
    assert result.size_mb < result.source_mb


@pytest.mark.parametrize(
    ("count", "calibrated", "compared", "note"),
    [
        (400, 150, 250, "texts of texts.txt that did not set the ranges"),
        (40, 40, 40, "the very texts that set the ranges"),
    ],
)
def test_texts_that_set_ranges_are_not_compared_on_unless_there_are_no_others(
    tmp_path, count, calibrated, compared, note
):
    lines = [f"text {number}" for number in range(count)]
    (tmp_path / "texts.txt").write_text("\n".join(lines))
    static = choose_texts(Request(tmp_path, "openvino", calibrate=tmp_path / "texts.txt"), LABELS)
    assert (len(static.calibration), len(static.compared)) == (calibrated, compared)
    assert {*static.calibration, *static.compared} == set(lines)
    assert static.compared_on.startswith(note) and static.calibrated_on == f"{calibrated} texts of texts.txt"
    dynamic = choose_texts(Request(tmp_path, "onnx", calibrate=tmp_path / "texts.txt"), LABELS)
    assert dynamic.calibration == [] and sorted(dynamic.compared) == sorted(lines)
    assert dynamic.compared_on == "texts of texts.txt"


def test_ids_of_labels_are_taken_for_their_names(tmp_path):
    pd.DataFrame({"text": TEXTS[:4], "label": ["3", "sports", "World", "0"]}).to_csv(tmp_path / "a.csv", index=False)
    chosen = choose_texts(Request(tmp_path, "onnx", check=tmp_path / "a.csv"), NEWS)
    assert chosen.labels == ["Sci/Tech", "Sports", "World", "World"] and chosen.compared == TEXTS[:4]


@pytest.fixture
def no_conversion(monkeypatch):
    """Nothing may be converted."""

    def refuse(reference):
        raise AssertionError(f"{reference} was asked for")

    monkeypatch.setattr(quantizing, "load_object", refuse)


MISTAKES = {
    "exists": (["in/model", "in"], r"in: exists already; name a new folder"),
    "converted": (["in/onnx", "out"], r"in/onnx: a model for ONNX Runtime already; name .* checkpoint"),
    "encoder": (["in/encoder", "out"], r"in/encoder: not a fine-tuned classifier: its config.json names BertModel"),
    "architecture": (["in/t5", "out"], r"a model of type `t5` is not supported; take one of type bert, "),
    "nothing": (["in/none", "out"], r"in/none: no model there"),
    "label": (
        ["in/model", "out", "--check", "in/labels.csv"],
        r"in/labels.csv, line 3: unknown label 'Weather'; the model has negative, neutral, positive",
    ),
    "column": (
        ["in/model", "out", "--check", "in/labels.csv", "--text-column", "body"],
        r"in/labels.csv, line 2: no column `body` \(--text-column\); columns found: text, label",
    ),
    "empty row": (
        ["in/model", "out", "--check", "in/empty.csv"],
        r"in/empty.csv, line 3: empty text in column `text`",
    ),
    "no texts": (["in/model", "out", "--calibrate", "in/blank.txt"], r"in/blank.txt: no texts \(--calibrate\)"),
    "no file": (["in/model", "out", "--calibrate", "in/gone.txt"], r"in/gone.txt: not found \(--calibrate\)"),
    "no check": (["in/model", "out", "--check", "in/gone.csv"], r"in/gone.csv: not found \(--check\)"),
    "drop alone": (["in/model", "out", "--max-f1-drop", "0.1"], r"--max-f1-drop goes with --check"),
    "group": (
        ["in/model", "out", "--format", "openvino", "--embedding-group", "2"],
        r"--embedding-group is of --format onnx alone",
    ),
}


@pytest.fixture(scope="module")
def mistakes(tmp_path_factory) -> Path:
    """A folder with what each of `MISTAKES` names."""
    folder = tmp_path_factory.mktemp("mistakes")
    model = make_checkpoint(folder / "in/model", layers=1)
    to_onnx(model, folder / "in/onnx")
    for name, kind in (("encoder", "bert"), ("t5", "t5")):
        shutil.copytree(model, folder / "in" / name)
        config = folder / "in" / name / "config.json"
        write_json(config, {"model_type": kind, "architectures": [BertModel.__name__]})
    weights = folder / "in/encoder/model.safetensors"
    kept = {name: tensor for name, tensor in load_file(weights).items() if not name.startswith("classifier")}
    save_file(kept, weights, metadata={"format": "pt"})
    (folder / "in/labels.csv").write_text("text,label\nGood.,positive\nRain.,Weather\n")
    (folder / "in/empty.csv").write_text("text,label\nGood.,positive\n ,neutral\n")
    (folder / "in/blank.txt").write_text("\n  \n")
    return folder


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_before_any_conversion(mistakes, monkeypatch, no_conversion, name):
    monkeypatch.chdir(mistakes)
    arguments, message = MISTAKES[name]
    ended = CliRunner().invoke(app, ["quantize", *arguments])
    assert isinstance(ended.exception, InputError) and re.search(message, str(ended.exception)), ended.exception
    assert "\n" not in str(ended.exception) and [path.name for path in mistakes.iterdir()] == ["in"]


def test_the_folder_one_stands_in_has_its_name_on_the_card(sources, tmp_path, monkeypatch):
    source = shutil.copytree(sources["agnews_bert"], tmp_path / "mine")
    monkeypatch.chdir(source)
    export(Path(), "torch", tmp_path / "out")
    assert (tmp_path / "out/README.md").read_text(encoding="utf-8").startswith("# mine\n")
