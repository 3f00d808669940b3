"""Intermediate-layer distillation: losses against plain loops, the layer map, and targets kept on disk."""

import shutil
from collections import namedtuple

import pandas as pd
import pytest
import torch
from conftest import LABELS, make_checkpoint
from settings import training_params

from fincompress.compress import hidden_layers as intermediate
from fincompress.compress.hidden_layers import (
    LiveTargets,
    StoredTargets,
    add_projections,
    attention_mse,
    drop_projections,
    group_heads,
    hidden_mse,
    intermediate_objective,
    intermediates,
    layer_map,
    model_inputs,
    teacher_targets,
)
from fincompress.compress.student import build_student
from fincompress.core.errors import InputError
from fincompress.core.sections import IkdParams, StudentParams
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.training import train

TEXTS = ["Profit rose.", "The firm said that sales of its older machines fell in every region last year.", "Up"]
LENGTHS = [2, 5, 3]


def ikd_params(**changes) -> IkdParams:
    values = {
        **training_params(epochs=2).model_dump(),
        "temperature": 4.0,
        "alpha": 0.5,
        "lambda_hidden": 1.0,
        "lambda_attention": 1.0,
        "layer_map": None,
    }
    return IkdParams(**{**values, **changes})


@pytest.fixture
def tensors():
    """Hidden states [3, 2, 5, 4] and attention [3, 2, 2, 5, 5] of student and teacher, and the mask [3, 5]."""
    generator = torch.Generator().manual_seed(0)
    hidden = torch.randn(2, 3, 2, 5, 4, generator=generator)
    attention = torch.rand(2, 3, 2, 2, 5, 5, generator=generator)
    mask = torch.tensor([[1] * length + [0] * (5 - length) for length in LENGTHS])
    return hidden, attention, mask


def test_hidden_loss_equals_a_loop_over_real_positions(tensors):
    (student, teacher), _, mask = tensors
    errors = [
        ((student[row, layer, position] - teacher[row, layer, position]) ** 2).mean()
        for row, length in enumerate(LENGTHS)
        for layer in range(2)
        for position in range(length)
    ]
    torch.testing.assert_close(hidden_mse(student, teacher, mask), torch.stack(errors).mean())


def test_attention_loss_equals_a_loop_over_real_pairs(tensors):
    _, (student, teacher), mask = tensors
    errors = [
        (student[row, layer, head, query, key] - teacher[row, layer, head, query, key]) ** 2
        for row, length in enumerate(LENGTHS)
        for layer in range(2)
        for head in range(2)
        for query in range(length)
        for key in range(length)
    ]
    torch.testing.assert_close(attention_mse(student, teacher, mask), torch.stack(errors).mean())


def test_padding_changes_neither_loss(tensors):
    hidden, attention, mask = tensors
    more = torch.nn.functional.pad
    wide_hidden, wide_attention = more(hidden, (0, 0, 0, 3), value=9.0), more(attention, (0, 3, 0, 3), value=9.0)
    wide_hidden[0] += more(torch.zeros_like(hidden[0]), (0, 0, 0, 3), value=1.0)  # student and teacher differ there
    wide_attention[0] += more(torch.zeros_like(attention[0]), (0, 3, 0, 3), value=1.0)
    wide_mask = more(mask, (0, 3))
    torch.testing.assert_close(hidden_mse(*wide_hidden, wide_mask), hidden_mse(*hidden, mask))
    torch.testing.assert_close(attention_mse(*wide_attention, wide_mask), attention_mse(*attention, mask))


def test_unequal_heads_meet_in_groups_of_consecutive_heads():
    attention = torch.rand(2, 6, 4, 4)
    expected = torch.stack([attention[:, :3].mean(1), attention[:, 3:].mean(1)], dim=1)
    torch.testing.assert_close(group_heads(attention, 2), expected)
    assert torch.equal(group_heads(attention, 6), attention)


@pytest.mark.parametrize(
    ("student", "teacher", "expected"),
    [(4, 12, {0: 2, 1: 5, 2: 8, 3: 11}), (3, 6, {0: 1, 1: 3, 2: 5}), (1, 6, {0: 5}), (2, 2, {0: 0, 1: 1})],
)
def test_without_a_map_layers_are_evenly_spaced_and_the_last_meets_the_last(student, teacher, expected):
    assert layer_map(None, student, teacher) == expected


@pytest.mark.parametrize(
    ("layers", "named"),
    [
        ({0: 2, 4: 5}, "4: 5 names student layer 4, but the student's layers are 0 to 3"),
        ({0: 12}, "0: 12 names teacher layer 12"),
        ({0: -1}, "teacher layer -1"),
    ],
)
def test_an_impossible_map_names_the_pair(layers, named):
    with pytest.raises(InputError, match=f"ikd.layer_map: .*{named}"):
        layer_map(layers, 4, 12)


def test_a_deeper_student_needs_a_map():
    with pytest.raises(InputError, match="layer_map: null cannot space 4"):
        layer_map(None, 4, 2)
    assert layer_map({3: 1, 0: 0}, 4, 2) == {0: 0, 3: 1}


@pytest.fixture
def distillation(checkpoint):
    """(student, tokenizer, tokenised texts, teacher): 2 layers of 4, eager attention, projections of 2 layers."""
    shape = {"hidden_size": 32, "attention_heads": 4, "intermediate_size": 64, "init": "random", "revision": "main"}
    torch.manual_seed(0)
    student, tokenizer, _ = build_student(
        str(checkpoint), StudentParams(layers=2, layer_selection="evenly_spaced", **shape)
    )
    teacher = load_model(str(checkpoint))
    for model in (student, teacher):
        model.set_attn_implementation("eager")
    add_projections(student, 32, 2)
    texts = TEXTS * 6
    frame = pd.DataFrame({"text": texts, "label": (LABELS * len(texts))[: len(texts)]})
    return student, tokenizer, tokenise(frame, LABELS, tokenizer), teacher


def batch_of(rows, tokenizer):
    return dict(tokenizer.pad([{k: v for k, v in row.items() if k != "length"} for row in rows], return_tensors="pt"))


def test_stored_targets_are_what_the_teacher_gives_on_the_batch(distillation, tmp_path):
    _, tokenizer, data, teacher = distillation
    data, stored = teacher_targets(data, teacher, tokenizer, [1, 3], 4, tmp_path / "targets")
    assert isinstance(stored, StoredTargets)
    batch = batch_of(data.select([1, 5, 2, 0]), tokenizer)
    logits, hidden, attention = intermediates(teacher, model_inputs(batch), [1, 3], 4)
    real = batch["attention_mask"].bool()
    pairs = (real[:, :, None] & real[:, None, :])[:, None, None].expand_as(attention)
    stored_hidden, stored_attention = stored(batch)
    torch.testing.assert_close(stored_hidden.transpose(1, 2)[real], hidden.transpose(1, 2)[real], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(stored_attention[pairs], attention[pairs], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(batch["teacher_logits"], logits, rtol=1e-4, atol=1e-5)


def test_stored_targets_are_taken_up_again_without_the_teacher(distillation, tmp_path, monkeypatch):
    _, tokenizer, data, teacher = distillation
    first, stored = teacher_targets(data, teacher, tokenizer, [1, 3], 4, tmp_path / "targets")
    monkeypatch.setattr(intermediate, "model_batches", None)
    again, restored = teacher_targets(data, teacher, tokenizer, [1, 3], 4, tmp_path / "targets")
    batch = batch_of(first.select([3, 1]), tokenizer)
    assert again["teacher_logits"] == first["teacher_logits"]
    for ours, theirs in zip(stored(batch), restored(batch), strict=True):
        assert torch.equal(ours, theirs)


def test_without_room_on_the_disk_the_teacher_runs_along(distillation, tmp_path, monkeypatch, capsys):
    _, tokenizer, data, teacher = distillation
    usage = namedtuple("usage", ["free"])
    _, stored = teacher_targets(data, teacher, tokenizer, [1, 3], 4, tmp_path / "stored")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(free=1000))
    data, live = teacher_targets(data, teacher, tokenizer, [1, 3], 4, tmp_path / "targets")
    assert isinstance(live, LiveTargets) and "no room" in capsys.readouterr().out
    batch = batch_of(data.select([1]), tokenizer)
    for ours, theirs in zip(live(batch), stored(batch), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_attention_without_eager_is_an_error(distillation):
    student, tokenizer, data, _ = distillation
    student.set_attn_implementation("sdpa")
    with pytest.raises(RuntimeError, match="eager"):
        intermediates(student, model_inputs(batch_of(data.select([0]), tokenizer)), [0, 1], 4)


def test_a_loss_that_compares_nothing_is_an_error(distillation):
    _, tokenizer, data, teacher = distillation
    add_projections(teacher, 32, 2)
    data = data.add_column("row", list(range(len(data))))
    data = data.add_column("teacher_logits", [[0.0, 0.0, 0.0]] * len(data))
    objective = intermediate_objective(ikd_params(), [1, 3], LiveTargets(teacher, [1, 3], 4))
    with pytest.raises(RuntimeError, match=r"hidden loss is 0\.0"):
        objective(teacher, batch_of(data.select([0, 1]), tokenizer))


def test_distillation_draws_the_student_to_the_teacher_and_leaves_no_projection(distillation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student, tokenizer, data, teacher = distillation
    train_set, targets = teacher_targets(data, teacher, tokenizer, [1, 3], 4, tmp_path / "targets")
    params = ikd_params(alpha=1.0, epochs=8, patience=8, learning_rate=3e-3)
    objective = intermediate_objective(params, [0, 1], targets)
    batch = batch_of(train_set, tokenizer)
    before = objective(student, batch)[0].item()
    train(
        student,
        tokenizer,
        train_set,
        data,
        params,
        seed=1,
        scratch=tmp_path / "scratch",
        curves=tmp_path / "curves",
        objective=objective,
    )
    losses = pd.read_csv(tmp_path / "curves/train/loss.tsv", sep="\t")["loss"]
    assert losses.iloc[-1] < 0.8 * before
    drop_projections(student)
    assert not [name for name in student.state_dict() if "projection" in name]


def test_a_narrower_student_is_projected_to_the_teachers_width(checkpoint, tmp_path):
    narrow = load_model(str(make_checkpoint(tmp_path / "narrow", layers=2, hidden_size=16)))
    teacher, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    for model in (narrow, teacher):
        model.set_attn_implementation("eager")
    add_projections(narrow, 32, 2)
    batch = {
        **tokenizer(TEXTS, padding=True, return_tensors="pt"),
        "labels": torch.tensor([0, 1, 2]),
        "teacher_logits": torch.zeros(3, 3),
    }
    loss, _ = intermediate_objective(ikd_params(), [0, 1], LiveTargets(teacher, [1, 3], 4))(narrow, batch)
    loss.backward()
    assert all(projection.weight.grad.abs().sum() > 0 for projection in narrow.projections)
