"""Masks take the smallest weights, hold to the end of training, and are counted by kind of layer."""

import numpy as np
import pytest
import torch
from conftest import LABELS
from safetensors.torch import load_file
from settings import training_params
from transformers import BertConfig, BertForSequenceClassification

from fincompress.compress.sparsity import HoldZeros, count_kinds, prunable, sparsity, zero_smallest
from fincompress.networks.checkpoints import save
from fincompress.networks.structure import remove
from fincompress.networks.training import train

LAYERS, WIDTH, INNER = 2, 32, 64
TRAINING = training_params(epochs=2, patience=2, batch_size=8, learning_rate=1e-2, dropout=0.0, warmup_ratio=0.0)


def classifier():
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=600,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=4,
        intermediate_size=INNER,
        max_position_embeddings=64,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    return BertForSequenceClassification(config).eval()


def test_feed_forward_and_classifier_weights_are_pruned_and_nothing_else():
    layers = [f"bert.encoder.layer.{layer}" for layer in range(LAYERS)]
    names = {f"{layer}.{part}.dense" for layer in layers for part in ("intermediate", "output")}
    assert set(prunable(classifier())) == names | {"bert.pooler.dense", "classifier"}


@pytest.mark.parametrize("amount", [0.0, 0.3, 0.6])
def test_the_smallest_weights_of_each_layer_become_zero(amount):
    whole, pruned = classifier(), classifier()
    zero_smallest(pruned, amount)
    for name, linear in prunable(whole).items():
        before = linear.weight.detach().numpy()
        order = np.argsort(np.abs(before), axis=None)
        expected = before.copy().ravel()
        expected[order[: round(amount * before.size)]] = 0
        np.testing.assert_array_equal(pruned.get_submodule(name).weight.detach().numpy().ravel(), expected)
    for name, tensor in whole.state_dict().items():
        if name.rpartition(".")[0] not in prunable(whole):
            assert torch.equal(tensor, pruned.state_dict()[name])


@pytest.mark.parametrize("held", [True, False])
def test_zeros_stay_zero_through_training_and_in_the_saved_file(held, tokenizer, rows, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    model = classifier()
    remove(model, [(0, 1)], [np.array([3])] * LAYERS)
    zero_smallest(model, 0.6)
    zeros = {f"{name}.weight": linear.weight == 0 for name, linear in prunable(model).items()}
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(
        model,
        tokenizer,
        rows,
        rows,
        TRAINING,
        seed=0,
        scratch=tmp_path / "scratch",
        curves=tmp_path / "curves",
        callbacks=[HoldZeros(model)] if held else [],
    )
    save(model, tokenizer, tmp_path / "out", {})
    stored = load_file(tmp_path / "out" / "model.safetensors")
    changed = [name for name, tensor in stored.items() if not torch.equal(tensor, start[name])]
    assert set(zeros) <= set(changed)  # the rest of every masked layer has learnt
    kept = [bool((stored[name][mask] == 0).all()) for name, mask in zeros.items()]
    assert all(kept) if held else not any(kept)  # without the masks the optimizer fills them


def test_sparsity_is_counted_by_kind_of_layer_and_overall():
    model = classifier()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(1.0)  # fresh biases are zero
    before = count_kinds(model)
    a_layer = 4 * (WIDTH * WIDTH + WIDTH)
    assert before["attention"] == LAYERS * a_layer
    assert before["feed_forward"] == LAYERS * (2 * WIDTH * INNER + WIDTH + INNER)
    assert before["classifier"] == WIDTH * WIDTH + WIDTH + 3 * WIDTH + 3
    assert before["embeddings"] == (600 + 64 + 2) * WIDTH
    assert sum(before.values()) == model.num_parameters()
    remove(model, [(0, 0), (1, 2)])
    with torch.no_grad():
        model.classifier.weight[0] = 0
    rows = {row["kind"]: row for row in sparsity(model, before)}
    assert rows["attention"]["removed"] == pytest.approx((2 * (4 * 8 * WIDTH + 3 * 8)) / before["attention"], abs=1e-6)
    assert rows["attention"]["zeros"] == rows["feed_forward"]["sparsity"] == 0
    assert rows["classifier"]["zeros"] == WIDTH and rows["classifier"]["removed"] == 0
    assert rows["classifier"]["zeroed"] == pytest.approx(WIDTH / before["classifier"], abs=1e-6)
    gone = before["attention"] - rows["attention"]["parameters"] + WIDTH
    assert rows["overall"]["sparsity"] == pytest.approx(gone / sum(before.values()), abs=1e-6)
