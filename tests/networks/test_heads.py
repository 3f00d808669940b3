"""Heads of other names and other kinds: matched by `label_map`, made to choose one label, or refused in time."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import LABELS, ROOT, few_rows, make_checkpoint, make_tokenizer
from odd_checkpoints import POINTER, copied, edit, with_older_tokenizer, with_python_tokenizer
from ruamel.yaml import YAML
from transformers import BertForSequenceClassification

from fincompress.core.errors import InputError
from fincompress.core.files import write_json
from fincompress.networks.checkpoints import has_head_for, load_for_labels, load_model, load_tokenizer, save

NAMELESS = ["LABEL_0", "LABEL_1", "LABEL_2"]
MAP = {"LABEL_0": "positive", "label_1": "negative", "LABEL_2": "neutral"}


@pytest.fixture(scope="module")
def nameless(tmp_path_factory):
    return make_checkpoint(tmp_path_factory.mktemp("nameless") / "checkpoint", labels=NAMELESS)


@pytest.mark.parametrize("as_it_is", [True, False])
def test_rows_of_other_names_are_matched_by_the_label_map(nameless, as_it_is):
    model, _ = load_for_labels(str(nameless), LABELS, 48, label_map=MAP, as_it_is=as_it_is)
    theirs = load_model(str(nameless)).classifier.weight
    assert torch.equal(model.classifier.weight, theirs[[1, 2, 0]])
    assert model.config.id2label == dict(enumerate(LABELS))
    assert has_head_for(str(nameless), LABELS, MAP) and not has_head_for(str(nameless), LABELS)


def test_a_label_map_of_some_outputs_leaves_the_others_their_names(tmp_path):
    odd = make_checkpoint(tmp_path / "odd", labels=["bearish", "neutral", "bullish"])
    model, _ = load_for_labels(
        str(odd), LABELS, 48, label_map={"bearish": "negative", "bullish": "positive"}, as_it_is=True
    )
    assert torch.equal(model.classifier.weight, load_model(str(odd)).classifier.weight)


@pytest.mark.parametrize(
    ("label_map", "reason"),
    [
        ({"LABEL_7": "positive"}, r"has no output `LABEL_7`; it has LABEL_0, LABEL_1, LABEL_2$"),
        ({"LABEL_0": "LABEL_1"}, r"two outputs of one name: LABEL_1, LABEL_1, LABEL_2"),
    ],
)
def test_a_label_map_that_does_not_fit_the_head_is_one_line(nameless, label_map, reason):
    with pytest.raises(InputError, match=r"params\.yaml: baseline\.label_map: .*" + reason):
        load_for_labels(str(nameless), LABELS, 48, "baseline", label_map)


def test_a_label_map_for_an_encoder_is_one_line(checkpoint, tmp_path):
    load_model(str(checkpoint)).bert.save_pretrained(tmp_path)
    load_tokenizer(str(checkpoint)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"teacher\.label_map: .*has no classification head; set it to null"):
        load_for_labels(str(tmp_path), LABELS, 48, label_map=MAP)
    with pytest.raises(InputError, match=r"teacher\.epochs: 0 takes .*, but it has no classification head, or train"):
        load_for_labels(str(tmp_path), LABELS, 48, as_it_is=True)


def test_a_head_of_other_names_is_not_taken_as_it_is(nameless):
    reason = (
        r"teacher\.epochs: 0 takes .* but it has no output for negative, neutral, positive, only LABEL_0, LABEL_1, "
        r"LABEL_2; set teacher\.label_map, such as \{LABEL_0: negative, …\}, or train it"
    )
    with pytest.raises(InputError, match=reason):
        load_for_labels(str(nameless), LABELS, 48, as_it_is=True)


@pytest.mark.parametrize("kind", ["multi_label_classification", "regression", "single_label_classification"])
def test_whatever_a_checkpoint_was_trained_for_it_learns_to_choose_one_label(checkpoint, tmp_path, kind):
    odd = copied(checkpoint, tmp_path / "odd")
    edit(odd / "config.json", problem_type=kind)
    model, _ = load_for_labels(str(odd), LABELS, 48)
    inputs, targets = torch.ones(3, 8, dtype=torch.int64), torch.tensor([2, 0, 2])
    answer = model(input_ids=inputs, labels=targets)
    torch.testing.assert_close(answer.loss, torch.nn.functional.cross_entropy(answer.logits, targets))
    save(model, make_tokenizer(), tmp_path / "saved", {})
    assert load_model(str(tmp_path / "saved")).config.problem_type == "single_label_classification"
    if kind != "single_label_classification":
        with pytest.raises(InputError, match=f"its problem_type is {kind}, so that it does not choose one label"):
            load_for_labels(str(odd), LABELS, 48, as_it_is=True)


def test_a_checkpoint_with_one_output_gets_one_for_each_label(tmp_path):
    odd = make_checkpoint(tmp_path / "odd", labels=["score"])
    model, _ = load_for_labels(str(odd), LABELS, 48)
    targets = torch.tensor([1, 0, 2])
    answer = model(input_ids=torch.ones(3, 8, dtype=torch.int64), labels=targets)
    torch.testing.assert_close(answer.loss, torch.nn.functional.cross_entropy(answer.logits, targets))
    with pytest.raises(InputError, match="no output for negative, neutral, positive, only score"):
        load_for_labels(str(odd), LABELS, 48, as_it_is=True)


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ({"1": "a", "2": "b", "3": "c"}, "id2label numbers its outputs 1, 2, 3; expected 0 to 2"),
        ({"0": "Up", "1": "up", "2": "down"}, "two outputs the same name: Up, up, down"),
    ],
)
def test_output_names_that_cannot_be_used_are_one_line(checkpoint, tmp_path, names, reason):
    odd = copied(checkpoint, tmp_path / "odd")
    edit(odd / "config.json", id2label=names, label2id=None)
    with pytest.raises(InputError, match=reason):
        load_for_labels(str(odd), LABELS, 48)


def test_a_tokenizer_of_python_alone_is_refused(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    with_python_tokenizer(odd)
    with pytest.raises(InputError, match=r"BertweetTokenizer, runs in Python alone and has no tokenizer\.json"):
        load_for_labels(str(odd), LABELS, 48)
    (odd / "bpe.codes").unlink()  # transformers raises TypeError
    with pytest.raises(InputError, match=r"vocab\.txt: transformers cannot read it: .*a checkpoint with a tokenizer"):
        load_for_labels(str(odd), LABELS, 48)


def test_an_older_vocabulary_is_a_tokenizer_like_any(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    with_older_tokenizer(odd)
    texts = ["Profit rose sharply.", "naïve"]
    found = load_tokenizer(str(odd), 48)(texts)["input_ids"]
    assert found == load_tokenizer(str(checkpoint), 48)(texts)["input_ids"]


def test_a_word_piece_without_an_embedding_is_refused_before_it_is_met(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    tokenizer = load_tokenizer(str(checkpoint))
    tokenizer.add_tokens(["[NEW]"])
    tokenizer.save_pretrained(odd)
    with pytest.raises(InputError, match="word pieces up to id 600, its model embeddings for 600"):
        load_for_labels(str(odd), LABELS, 48)


def test_a_tokenizer_that_names_no_padding_pads_with_the_models(checkpoint, tmp_path):
    odd = copied(checkpoint, tmp_path / "odd")
    edit(odd / "tokenizer_config.json", pad_token=None)
    batch = load_tokenizer(str(odd), 48)(["Profit rose.", "Profit"], padding=True)
    assert batch["input_ids"][1][-1] == 0 and batch["attention_mask"][1][-1] == 0


def set_up(folder: Path, source: Path, **teacher) -> Path:
    """A folder in which the stage `teacher` starts from a copy of `source` as it is; returns the copy."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["teacher"] |= {"checkpoint": "start", "epochs": 0, "max_length": 48, **teacher}
    params["benchmark"] |= {"padded_length": 48, "lengths": [16]}
    yaml.dump(params, folder / "params.yaml")
    (folder / "data").mkdir()
    rows = few_rows(4).assign(source="embedded", phenomenon="")
    for name in ("train", "val", "test"):
        rows.to_csv(folder / "data" / f"{name}.csv", index=False)
    write_json(folder / "data" / "labels.json", {"labels": LABELS})
    return copied(source, folder / "start")


def run_teacher(folder: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stages.teacher", "teacher"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)


def test_the_stage_takes_a_head_of_other_names_by_the_map(nameless, tmp_path):
    set_up(tmp_path, nameless, label_map=MAP)
    ended = run_teacher(tmp_path)
    assert ended.returncode == 0, ended.stderr
    found = BertForSequenceClassification.from_pretrained(tmp_path / "models/teacher").classifier.weight
    assert torch.equal(found, load_model(str(nameless)).classifier.weight[[1, 2, 0]])


@pytest.mark.parametrize(
    ("change", "label_map", "line"),
    [
        (lambda folder: None, None, "teacher.epochs: 0 takes `start` as it is, but it has no output for negative"),
        (
            lambda folder: (folder / "model.safetensors").write_bytes(POINTER),
            MAP,
            "start/model.safetensors: a Git LFS pointer",
        ),
    ],
)
def test_the_stage_refuses_in_one_line_and_writes_nothing(nameless, tmp_path, change, label_map, line):
    change(set_up(tmp_path, nameless, label_map=label_map))
    ended = run_teacher(tmp_path)
    (said,) = ended.stderr.strip().splitlines()
    assert ended.returncode == 2 and said.startswith("error: ") and line in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "params.yaml", "start"]
