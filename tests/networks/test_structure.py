"""Heads and neurons are removed for good, and the pruned model saves, loads and runs like any other."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import ROOT
from random_classifiers import CONFIGS, HEADS, LAYERS, REMOVED, SIZE, TEXTS, VARIANTS, WIDTH, classifier, logits
from transformers import BertConfig, FNetConfig, FNetForSequenceClassification

from fincompress.compress.student import build_student
from fincompress.core.errors import InputError
from fincompress.core.scratch import SCRATCH
from fincompress.core.sections import StudentParams
from fincompress.networks import structure as surgery
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.networks.structure import Structure, linears, remove, structure_of
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx
from fincompress.runtimes.registry import open_classifier


def mask_features(linear, positions) -> None:
    """Zero these input features of a linear layer, as a mask on heads or neurons does."""

    def hook(_module, inputs):
        masked = inputs[0].clone()
        masked[..., positions] = 0
        return masked

    linear.register_forward_pre_hook(hook)


FEWER = {"modernbert": (4 * SIZE * 32, 3 * 32), "deberta-v2 without shared projections": (6 * SIZE * 32 + 5 * SIZE, 65)}
FEWER["modernbert with biases"] = (4 * SIZE * 32 + 3 * SIZE, 3 * 32 + 2)


@pytest.mark.parametrize("model_type", [*CONFIGS, *VARIANTS])
def test_a_pruned_model_equals_the_whole_one_with_its_heads_and_neurons_masked(model_type, tokenizer):
    pruned, masked = classifier(model_type), classifier(model_type)
    neurons = [np.array([0, 5]), np.array([], dtype=int), np.array([63])]
    for layer, head in REMOVED:
        mask_features(linears(masked, "attention_output")[layer], list(range(head * SIZE, (head + 1) * SIZE)))
    for layer, positions in enumerate(neurons):
        mask_features(linears(masked, "output")[layer], positions)
    whole, parameters = logits(pruned, tokenizer), pruned.num_parameters()
    remove(pruned, REMOVED, neurons)
    assert (logits(pruned, tokenizer) - logits(masked, tokenizer)).abs().max() <= 1e-5
    assert (logits(pruned, tokenizer) - whole).abs().max() > 1e-2
    a_head, a_neuron = FEWER.get(model_type, (4 * SIZE * 32 + 3 * SIZE, 2 * 32 + 1))
    assert parameters - pruned.num_parameters() == len(REMOVED) * a_head + 3 * a_neuron


def test_a_head_or_neuron_of_shared_layers_goes_from_all_of_them(tokenizer):
    pruned, masked = classifier("albert"), classifier("albert")
    (attended,), (activated,) = linears(masked, "attention_output"), linears(masked, "output")
    mask_features(attended, list(range(SIZE, 2 * SIZE)))
    mask_features(activated, [0, 5])
    before = pruned.num_parameters()
    assert structure_of(pruned) == Structure([[0, 1, 2, 3]], [WIDTH])
    remove(pruned, [(0, 1)], [np.array([0, 5])])
    assert structure_of(pruned) == Structure([[0, 2, 3]], [WIDTH - 2])
    assert (logits(pruned, tokenizer) - logits(masked, tokenizer)).abs().max() <= 1e-5
    assert before - pruned.num_parameters() == 4 * SIZE * 32 + 3 * SIZE + 2 * (2 * 32 + 1)
    with pytest.raises(ValueError, match="layer 0"):
        remove(pruned, [(0, head) for head in (0, 2, 3)])


@pytest.mark.parametrize("model_type", ["bert", "mpnet", "deberta-v2", "modernbert"])
def test_a_pruned_model_can_be_pruned_again(model_type, tokenizer):
    twice, once = classifier(model_type), classifier(model_type)
    remove(twice, REMOVED[:3], [np.array([1])] * LAYERS)
    remove(twice, REMOVED[3:], [np.array([1])] * LAYERS)  # the neuron that was 2 before the first removal
    remove(once, REMOVED, [np.array([1, 2])] * LAYERS)
    assert structure_of(twice) == structure_of(once) == Structure([[0, 2], [0, 1, 2, 3], [2]], [62] * LAYERS)
    torch.testing.assert_close(logits(twice, tokenizer), logits(once, tokenizer), rtol=0, atol=0)


def test_the_last_head_of_a_layer_cannot_be_removed():
    with pytest.raises(ValueError, match="layer 1"):
        remove(classifier(), [(1, head) for head in range(HEADS)])


def test_another_architecture_is_one_clear_error():
    with pytest.raises(InputError, match="type `fnet` is not supported; take one of type bert, distilbert"):
        structure_of(FNetForSequenceClassification(FNetConfig(num_hidden_layers=1, hidden_size=8)))


@pytest.fixture
def saved(tokenizer, tmp_path):
    """(folder, model): an uneven pruned checkpoint."""
    model = classifier()
    remove(model, REMOVED, [np.array([0, 5]), np.array([7]), np.arange(10)])
    save(model, tokenizer, tmp_path / "pruned", {})
    return tmp_path / "pruned", model


def test_a_pruned_checkpoint_reloads_in_a_fresh_process(saved, tokenizer):
    folder, model = saved
    script = (
        "import sys, torch\n"
        "from fincompress.networks.checkpoints import load_model, load_tokenizer\n"
        "model, tokenizer = load_model(sys.argv[1]), load_tokenizer(sys.argv[1])\n"
        f"print(model(**tokenizer({TEXTS!r}, padding=True, return_tensors='pt')).logits.tolist())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script, str(folder)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    printed = torch.tensor(json.loads(result.stdout))
    torch.testing.assert_close(printed, logits(model, tokenizer), rtol=0, atol=1e-6)
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_a_pruned_checkpoint_exports_and_runs_everywhere_with_the_same_logits(saved, tokenizer, tmp_path):
    folder, model = saved
    to_onnx(folder, tmp_path / "onnx")
    expected = logits(model, tokenizer).numpy()
    for place, runtime in ((folder, "torch"), (tmp_path / "onnx", "onnxruntime")):
        served = predict_logits(open_classifier(place, runtime, threads=1), TEXTS)
        np.testing.assert_allclose(served, expected, atol=1e-4)


def test_a_pruned_checkpoint_stays_a_classifier_for_its_config(saved):
    folder, _ = saved
    reloaded = load_model(str(folder))
    assert reloaded.config.architectures == ["BertForSequenceClassification"]
    assert isinstance(reloaded, surgery.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[BertConfig])
    assert structure_of(reloaded) == Structure([[0, 2], [0, 1, 2, 3], [2]], [62, 63, 54])
    assert load_tokenizer(str(folder)).model_max_length == 48


def test_weights_that_do_not_fit_the_structure_are_one_clear_error(saved):
    folder, _ = saved
    config = (folder / "config.json").read_text()
    (folder / "config.json").write_text(config.replace('"ffn_widths": [\n      62', '"ffn_widths": [\n      60'))
    assert (folder / "config.json").read_text() != config
    with pytest.raises(InputError, match="pruned"):
        load_model(str(folder))


def test_a_student_cannot_copy_pruned_layers_but_can_start_afresh(saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, _ = saved
    shape = {"layers": 2, "layer_selection": "first", "hidden_size": 32, "attention_heads": 4, "intermediate_size": 64}
    shape["revision"] = "main"
    with pytest.raises(InputError, match=r"student\.init: `teacher` is pruned"):
        build_student(str(folder), StudentParams(**shape, init="teacher"))
    student, _, _ = build_student(str(folder), StudentParams(**shape, init="random"))
    assert structure_of(student) == Structure([[0, 1, 2, 3]] * 2, [64, 64]) and not SCRATCH.exists()
