"""A folder as the hub has it is served and exported, whatever it leaves out; and if it cannot be, one line says why."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import LABELS, make_checkpoint
from odd_checkpoints import (
    POINTER,
    copied,
    edit,
    in_parts,
    reweighted,
    with_older_tokenizer,
    with_older_weights,
    with_older_weights_in_parts,
    with_python_tokenizer,
)

from fincompress.cli.main import main
from fincompress.core.errors import InputError
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx, to_openvino
from fincompress.runtimes.registry import open_classifier, runtime_of, weights_digest
from fincompress.serving.classifier import load_classifier
from fincompress.serving.demo import Duel
from fincompress.serving.export import export

TEXTS = ["Profit rose sharply.", "The board met on Tuesday.", "profit " * 100]


@pytest.fixture(scope="module")
def formats(tmp_path_factory) -> dict[str, Path]:
    """One tiny classifier as the hub would have it: no limit of length but the 64 positions; and converted."""
    root = tmp_path_factory.mktemp("formats")
    make_checkpoint(root / "torch")
    to_onnx(root / "torch", root / "onnx")
    to_openvino(root / "torch", root / "openvino")
    return {name: root / name for name in ("torch", "onnx", "openvino")}


def without(*names: str):
    def change(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return change


def said(name: str, **changes):
    return lambda folder: edit(folder / name, **changes)


CHANGES = {
    "as it is": lambda folder: None,
    "length over the positions": said("tokenizer_config.json", model_max_length=512),
    "length as a float": said("tokenizer_config.json", model_max_length=1e30),
    "no length": said("tokenizer_config.json", model_max_length=None),
    "no padding named": said("tokenizer_config.json", pad_token=None),
    "padding as an object": said("tokenizer_config.json", pad_token={"content": "[PAD]", "__type": "AddedToken"}),
    "no padding id": said("config.json", pad_token_id=None),
    "nothing beside the tokenizer": without("tokenizer_config.json"),
}
CHECKPOINTS = {
    "older tokenizer": with_older_tokenizer,
    "older weights": with_older_weights,
    "parts": in_parts,
    "older parts": with_older_weights_in_parts,
}


@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("change", CHANGES)
def test_what_a_folder_leaves_out_changes_no_answer(formats, tmp_path, name, change):
    folder = copied(formats[name], tmp_path / "odd")
    CHANGES[change](folder)
    served = open_classifier(folder, runtime_of(folder), threads=1)
    expected = predict_logits(open_classifier(formats["torch"], "torch", threads=1), TEXTS)
    np.testing.assert_allclose(predict_logits(served, TEXTS), expected, atol=1e-4)
    assert served.encode(TEXTS)["input_ids"].shape == (3, 64), "cut at the positions"
    assert served.labels == LABELS


@pytest.mark.parametrize("kind", ["torch", "onnx", "openvino"])
@pytest.mark.parametrize("change", CHECKPOINTS)
def test_a_checkpoint_in_an_older_form_is_served_and_exported(formats, tmp_path, kind, change):
    folder = copied(formats["torch"], tmp_path / "odd")
    CHECKPOINTS[change](folder)
    done = export(folder, kind, tmp_path / "out")
    assert done.difference < 1e-4
    exported = load_classifier(tmp_path / "out", threads=1)
    expected = load_classifier(formats["torch"], threads=1)(TEXTS)
    for own, whole in zip(exported(TEXTS), expected, strict=True):
        assert own.label == whole.label and own.confidence == pytest.approx(whole.confidence, abs=1e-4)
    assert (tmp_path / "out" / "tokenizer.json").is_file()
    assert {path.suffix for path in (tmp_path / "out").iterdir()} & {".safetensors", ".onnx", ".xml"}
    assert kind == "openvino" or not list((tmp_path / "out").glob("*.bin"))
    assert "64 word pieces" in (tmp_path / "out" / "README.md").read_text()
    assert weights_digest(folder, "torch") != weights_digest(formats["onnx"], "onnxruntime")


def test_outputs_without_names_are_called_as_transformers_would(formats, tmp_path):
    folder = copied(formats["onnx"], tmp_path / "odd")
    edit(folder / "config.json", id2label=None, label2id=None, num_labels=3)
    assert load_classifier(folder, threads=1).labels == ["LABEL_0", "LABEL_1", "LABEL_2"]


@pytest.mark.parametrize("name", ["onnx", "openvino", "torch"])
def test_another_number_of_outputs_than_names_is_one_line(formats, tmp_path, name):
    folder = copied(formats[name], tmp_path / "odd")
    edit(folder / "config.json", id2label=None, label2id=None)  # then there are two
    reason = "3 outputs, where config.json names 2 labels" if name != "torch" else "is 3 where config.json says 2"
    with pytest.raises(InputError, match=reason):
        load_classifier(folder, threads=1)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"problem_type": "multi_label_classification"}, "does not choose one of its labels"),
        ({"problem_type": "regression"}, "does not choose one of its labels"),
        ({"id2label": {"0": "score"}}, r"one output \(score\)"),
        ({"id2label": ["up", "down"]}, "expected a number and a name of each output"),
        ({"model_type": None}, "no model_type"),
        ({"model_type": "gpt2"}, r"config\.json: a model of type `gpt2` is not supported"),
        ({"max_position_embeddings": None, "tokenizer": None}, "says how long a text may be"),
    ],
)
def test_a_folder_that_cannot_be_served_says_why(formats, tmp_path, changes, reason):
    folder = copied(formats["onnx"], tmp_path / "odd")
    edit(folder / "config.json", **changes)
    with pytest.raises(InputError, match=reason) as caught:
        load_classifier(folder, threads=1)
    assert str(folder) in str(caught.value) and "\n" not in str(caught.value)


def test_a_graph_of_something_else_is_one_line(formats, tmp_path):
    import onnx

    folder = copied(formats["onnx"], tmp_path / "odd")
    graph = onnx.load(folder / "model.onnx")
    for node in graph.graph.node:
        node.output[:] = ["last_hidden_state" if name == "logits" else name for name in node.output]
    graph.graph.output[0].name = "last_hidden_state"
    onnx.save(graph, folder / "model.onnx")
    with pytest.raises(
        InputError, match=r"model\.onnx: no output logits, but last_hidden_state: not the graph of a text"
    ):
        load_classifier(folder, threads=1)


def test_an_encoder_is_not_asked_for_labels_that_it_never_learnt(formats, tmp_path):
    folder = reweighted(
        formats["torch"], tmp_path / "odd", lambda w: {name: t for name, t in w.items() if "classifier" not in name}
    )
    with pytest.raises(InputError, match="it has no classification head"):
        load_classifier(folder, threads=1)
    with pytest.raises(InputError, match="it has no classification head"):
        export(folder, "onnx", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_with_other_weights_alone_says_which_are_read(formats, tmp_path):
    folder = copied(formats["torch"], tmp_path / "odd")
    (folder / "model.safetensors").rename(folder / "tf_model.h5")
    with pytest.raises(InputError, match=r"config\.json and no weights that can be read: expected model\.safetensors"):
        load_classifier(folder)


def cut(content: bytes) -> bytes:
    return content[: len(content) // 2]


DAMAGE = {"cut": cut, "empty": lambda _: b"", "pointer": lambda _: POINTER, "junk": lambda _: b"\x07junk\x00" * 500}
FILES = {
    "torch": ["model.safetensors", "config.json", "tokenizer.json", "tokenizer_config.json"],
    "onnx": ["model.onnx", "config.json", "tokenizer.json", "tokenizer_config.json"],
    "openvino": ["openvino_model.xml", "openvino_model.bin", "tokenizer.json"],
}


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("kind", "file"), [(kind, file) for kind, files in FILES.items() for file in files])
def test_a_damaged_file_is_one_line_with_its_name_whatever_opens_it(
    formats, tmp_path, monkeypatch, capsys, kind, file, damage
):
    folder = copied(formats[kind], tmp_path / "odd")
    (folder / file).write_bytes(DAMAGE[damage]((folder / file).read_bytes()))
    commands = {
        "predict": ["predict", "Profit rose.", "--model", str(folder)],
        "compare": ["compare", "Profit rose.", "--model", str(folder)],
        "export": ["export", str(folder), str(tmp_path / "out"), "--format", kind],
    }
    for name, command in commands.items():
        monkeypatch.setattr(sys, "argv", ["fincompress", *command])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        (line,) = captured.err.strip().splitlines()
        assert ended.value.code == 2 and captured.out == "", name
        assert line.startswith("error: ") and file in line and line.endswith(("fetch it again", "fetch them again")), (
            line
        )
    assert not (tmp_path / "out").exists()
    opinions, banner = Duel({"odd": folder}, reference=None).judge("Profit rose.", "odd")
    assert opinions == [] and "That did not work" in banner and file in banner


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights_in_the_older_format_are_one_line(formats, tmp_path, damage):
    folder = copied(formats["torch"], tmp_path / "odd")
    with_older_weights(folder)
    (folder / "pytorch_model.bin").write_bytes(DAMAGE[damage]((folder / "pytorch_model.bin").read_bytes()))
    with pytest.raises(InputError, match=r"pytorch_model\.bin: .*fetch it again$") as caught:
        load_classifier(folder)
    assert "weights_only" not in str(caught.value) and "\n" not in str(caught.value)


def test_a_tokenizer_of_python_alone_is_refused_by_every_command(formats, tmp_path):
    folder = copied(formats["torch"], tmp_path / "odd")
    with_python_tokenizer(folder)
    for use in (load_classifier, lambda path: export(path, "onnx", tmp_path / "out")):
        with pytest.raises(InputError, match="BertweetTokenizer, runs in Python alone"):
            use(folder)
    converted = copied(formats["onnx"], tmp_path / "converted")
    (converted / "tokenizer.json").unlink()
    with pytest.raises(InputError, match=r"no tokenizer\.json, which a model for onnxruntime needs"):
        load_classifier(converted)


def test_a_bag_of_words_with_a_damaged_file_is_one_line(tmp_path):
    from fincompress.data.sources import read_embedded
    from fincompress.runtimes.bag_of_words import BagOfWords

    BagOfWords.fit(read_embedded().head(200), LABELS).save(tmp_path / "bag")
    file = tmp_path / "bag" / "bag_of_words.json"
    content = json.loads(file.read_text())
    file.write_text("{")
    with pytest.raises(InputError, match=r"bag_of_words\.json: not JSON .*fetch it again"):
        open_classifier(tmp_path / "bag", "bag_of_words", threads=1)
    file.write_text(json.dumps({"labels": content["labels"]}))
    with pytest.raises(InputError, match=r"bag_of_words\.json and .*no 'terms'; fetch them again"):
        open_classifier(tmp_path / "bag", "bag_of_words", threads=1)
