"""Intermediate-layer distillation: losses against plain loops, the layer map, and targets kept on disk."""

import itertools
import math
import shutil
from collections import namedtuple

import pandas as pd
import pytest
import torch
from conftest import LABELS, make_checkpoint
from random_classifiers import CONFIGS, SIZE, classifier
from settings import training_params

from fincompress.compress import hidden_layers as intermediate
from fincompress.compress.hidden_layers import (
    Compared,
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
    teacher_targets,
)
from fincompress.compress.soft_labels import hinton_loss, model_inputs
from fincompress.compress.student import build_student
from fincompress.core.errors import InputError
from fincompress.core.sections import IkdParams, StudentParams
from fincompress.networks.architectures import ARCHITECTURES
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.structure import encoder_layers, linears, remove, structure_of
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
        "attention": "probabilities",
        "lambda_embedding": 0.0,
        "layer_map": None,
    }
    return IkdParams(**{**values, **changes})


def compared(layers: list[int], attention: str = "probabilities", embedding: bool = False) -> Compared:
    return Compared(layers, 4, attention, embedding)


TEACHER = compared([1, 3])
WHOLE = compared([1, 3], embedding=True)


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
    """(student, tokenizer, tokenised texts, teacher): 2 layers of 4, with projections."""
    shape = {"hidden_size": 32, "attention_heads": 4, "intermediate_size": 64, "init": "random", "revision": "main"}
    torch.manual_seed(0)
    student, tokenizer, _ = build_student(
        str(checkpoint), StudentParams(layers=2, layer_selection="evenly_spaced", **shape)
    )
    teacher = load_model(str(checkpoint))
    add_projections(student, 32, 2)
    texts = TEXTS * 6
    frame = pd.DataFrame({"text": texts, "label": (LABELS * len(texts))[: len(texts)]})
    return student, tokenizer, tokenise(frame, LABELS, tokenizer), teacher


def batch_of(rows, tokenizer):
    return dict(tokenizer.pad([{k: v for k, v in row.items() if k != "length"} for row in rows], return_tensors="pt"))


@pytest.mark.parametrize("kind", ["scores", "probabilities"])
def test_stored_targets_are_what_the_teacher_gives_on_the_batch(distillation, tmp_path, kind):
    _, tokenizer, data, teacher = distillation
    whole = compared([1, 3], kind, embedding=True)
    data, stored = teacher_targets(data, teacher, tokenizer, whole, tmp_path / "targets")
    assert isinstance(stored, StoredTargets)
    batch = batch_of(data.select([1, 5, 2, 0]), tokenizer)
    logits, hidden, attention = intermediates(teacher, model_inputs(batch), whole)
    real = batch["attention_mask"].bool()
    pairs = (real[:, :, None] & real[:, None, :])[:, None, None].expand_as(attention)
    stored_hidden, stored_attention = stored(batch)
    assert hidden.shape[1] == 3 and attention.shape[1] == 2
    torch.testing.assert_close(stored_hidden.transpose(1, 2)[real], hidden.transpose(1, 2)[real], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(stored_attention[pairs], attention[pairs], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(batch["teacher_logits"], logits, rtol=1e-4, atol=1e-5)


def test_stored_targets_are_taken_up_again_without_the_teacher(distillation, tmp_path, monkeypatch):
    _, tokenizer, data, teacher = distillation
    first, stored = teacher_targets(data, teacher, tokenizer, TEACHER, tmp_path / "targets")
    monkeypatch.setattr(intermediate, "model_batches", None)
    again, restored = teacher_targets(data, teacher, tokenizer, TEACHER, tmp_path / "targets")
    batch = batch_of(first.select([3, 1]), tokenizer)
    assert again["teacher_logits"] == first["teacher_logits"]
    for ours, theirs in zip(stored(batch), restored(batch), strict=True):
        assert torch.equal(ours, theirs)


def test_without_room_on_the_disk_the_teacher_runs_along(distillation, tmp_path, monkeypatch, capsys):
    _, tokenizer, data, teacher = distillation
    usage = namedtuple("usage", ["free"])
    _, stored = teacher_targets(data, teacher, tokenizer, TEACHER, tmp_path / "stored")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(free=1000))
    data, live = teacher_targets(data, teacher, tokenizer, TEACHER, tmp_path / "targets")
    assert isinstance(live, LiveTargets) and "no room" in capsys.readouterr().out
    batch = batch_of(data.select([1]), tokenizer)
    for ours, theirs in zip(live(batch), stored(batch), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


@pytest.fixture(params=CONFIGS)
def network(request):
    """(random classifier with four heads and, in layer 1, three; its inputs, padded; their lengths)."""
    model, lengths = classifier(request.param), [7, 4, 2]
    remove(model, [(1, 2)])
    mask = torch.tensor([[1] * length + [0] * (7 - length) for length in lengths])
    return model, {"input_ids": torch.randint(5, 600, mask.shape) * mask, "attention_mask": mask}, lengths


def test_scores_and_probabilities_are_those_of_the_weights_and_of_transformers(network):
    model, inputs, lengths = network
    usual = model.config._attn_implementation
    model.set_attn_implementation("eager")
    outputs = model(**inputs, output_attentions=True, output_hidden_states=True)
    model.set_attn_implementation(usual)
    real = inputs["attention_mask"].bool()
    for layer, heads in ((0, 4), (1, 3)):
        logits, hidden, attention = intermediates(model, inputs, Compared([layer], heads, "probabilities", True))
        torch.testing.assert_close(logits, outputs.logits, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(hidden[:, 0], outputs.hidden_states[0])
        torch.testing.assert_close(hidden[:, 1][real], outputs.hidden_states[layer + 1][real], rtol=1e-4, atol=1e-4)
        expected = outputs.attentions[layer].transpose(1, 2)[real]  # of real queries
        torch.testing.assert_close(attention[:, 0].transpose(1, 2)[real], expected, rtol=1e-4, atol=1e-4)
        scores = intermediates(model, inputs, Compared([layer], heads, "scores", False)).attention[:, 0]
        for row, head in itertools.product(range(3), range(heads)):
            n = lengths[row]
            found, expected = scores[row, head, :n, :n], outputs.attentions[layer][row, head, :n, :n]
            attended = found.masked_fill(found.isnan(), -torch.inf).softmax(dim=-1)  # NaN beyond a local window
            torch.testing.assert_close(attended, expected, rtol=1e-4, atol=1e-4)
            reference = reference_scores(model, layer, head, outputs.hidden_states[layer][row, :n])
            beyond = found.isnan()
            assert torch.equal(beyond, expected == 0)
            torch.testing.assert_close(found[~beyond], reference[~beyond], rtol=1e-4, atol=1e-3)
        assert scores.nan_to_num().std() > 0.5 and attention.std() > 0.05, "attention is not flat"


def reference_scores(model, layer: int, head: int, hidden: torch.Tensor) -> torch.Tensor:
    """Attention before the softmax, [seq, seq], by the formulas of the papers, from the states [seq, width] before."""
    mine, module = slice(head * SIZE, (head + 1) * SIZE), encoder_layers(model)[layer]
    kept, kind = structure_of(model).kept_heads[layer], model.config.model_type
    if kind == "modernbert":
        states = module.attn_norm(hidden)
        query, key, _ = module.attn.Wqkv(states).view(len(hidden), 3, -1, SIZE)[:, :, head].unbind(dim=1)
        theta = model.config.rope_parameters[model.config.layer_types[layer]]["rope_theta"]
        return rotated(query, theta) @ rotated(key, theta).T / math.sqrt(SIZE)
    query, key = (linears(model, part)[layer](hidden)[:, mine] for part in ("query", "key"))
    places = torch.arange(len(hidden))
    apart = places[:, None] - places[None, :]  # from a query to a key
    if kind == "mpnet":  # exact buckets up to 7 places apart
        bucket = apart.abs() + 16 * (apart < 0)
        bias = model.base_model.encoder.relative_attention_bias.weight[bucket, kept[head]]
        return query @ key.T / math.sqrt(SIZE) + bias
    if kind == "deberta-v2":  # buckets of 8: exact up to 4 places apart, then by their logarithm
        far = torch.ceil(torch.log(apart.abs() / 4) / math.log(63 / 4) * 3) + 4
        delta = torch.where(apart.abs() <= 4, apart, far * apart.sign()).long().clamp(-8, 7)
        distances = model.base_model.encoder.LayerNorm(model.base_model.encoder.rel_embeddings.weight)
        far_query, far_key = (linears(model, part)[layer](distances)[:, mine] for part in ("query", "key"))
        to_position = (query @ far_key.T).gather(1, delta + 8)
        to_content = (key @ far_query.T).gather(1, (-delta + 8).clamp(0, 15)).T
        return (query @ key.T + to_position + to_content) / math.sqrt(3 * SIZE)
    return query @ key.T / math.sqrt(SIZE)


def rotated(vectors: torch.Tensor, theta: float) -> torch.Tensor:
    """Vectors [seq, size] with their halves as real and imaginary parts, turned by angles that grow with place."""
    turns = theta ** (-torch.arange(0, SIZE, 2) / SIZE)
    angles = torch.arange(len(vectors))[:, None] * turns
    turned = torch.complex(*vectors.chunk(2, dim=1)) * torch.polar(torch.ones_like(angles), angles)
    return torch.cat([turned.real, turned.imag], dim=1)


@pytest.mark.parametrize("kind", ["scores", "probabilities"])
def test_dropout_touches_no_attention_that_is_compared(network, kind):
    (model, inputs, _), own = network, Compared([0], 4, kind, False)
    still = intermediates(model, inputs, own)
    model.train()
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5 if name.endswith(("attention.self.dropout", "attention.dropout", "attn.dropout")) else 0.0
        elif name.endswith(".attn"):  # ModernBERT's holds a number
            module.attention_dropout = 0.5
    trained = intermediates(model, inputs, own)
    assert not torch.allclose(trained.logits, still.logits, atol=1e-3), "dropout is on"
    torch.testing.assert_close(trained.attention, still.attention, equal_nan=True)


@pytest.mark.parametrize("kind", ["scores", "probabilities"])
def test_attention_is_compared_in_full_precision_where_training_is_not(network, kind):
    model, inputs, _ = network
    if not ARCHITECTURES[model.config.model_type].plain_scores:
        pytest.skip("is what the model itself gives to the softmax")
    model.forward = torch.autocast("cpu", dtype=torch.bfloat16)(model.forward)  # as accelerate does it
    attention = intermediates(model, inputs, Compared([0], 4, kind, False)).attention
    assert linears(model, "query")[0].weight.dtype == attention.dtype == torch.float32
    assert not torch.equal(attention, attention.bfloat16().float())


def test_a_layer_of_the_teacher_may_meet_several_of_the_students(distillation, tmp_path):
    _, tokenizer, data, teacher = distillation
    theirs = compared([0, 0, 1])
    data, stored = teacher_targets(data, teacher, tokenizer, theirs, tmp_path / "targets")
    batch = batch_of(data.select([1]), tokenizer)
    for kept, live in zip(stored(batch), LiveTargets(teacher, theirs)(batch), strict=True):
        torch.testing.assert_close(kept, live, rtol=1e-3, atol=1e-3)
        assert torch.equal(live[:, 0], live[:, 1]) and not torch.equal(live[:, 1], live[:, 2])


def test_the_embedding_output_takes_room_only_if_it_is_compared(tmp_path):
    without, whole = (StoredTargets(tmp_path, LENGTHS, what, width=32).bytes() for what in (TEACHER, WHOLE))
    assert whole - without == 2 * 32 * sum(LENGTHS)


def test_a_loss_that_compares_nothing_is_an_error(distillation):
    _, tokenizer, data, teacher = distillation
    add_projections(teacher, 32, 3)
    data = data.add_column("row", list(range(len(data))))
    data = data.add_column("teacher_logits", [[0.0, 0.0, 0.0]] * len(data))
    batch = batch_of(data.select([0, 1]), tokenizer)
    for key in ("lambda_hidden", "lambda_attention", "lambda_embedding"):
        weights = dict.fromkeys(("lambda_hidden", "lambda_attention", "lambda_embedding"), 0.0) | {key: 1.0}
        objective = intermediate_objective(ikd_params(**weights), WHOLE, LiveTargets(teacher, WHOLE))
        with pytest.raises(RuntimeError, match=rf"{key.removeprefix('lambda_')} loss is 0\.0"):
            objective(teacher, batch)


@pytest.mark.parametrize("kind", ["scores", "probabilities"])
def test_the_objective_is_the_weighted_sum_of_its_terms(distillation, kind):
    student, tokenizer, data, teacher = distillation
    drop_projections(student)
    add_projections(student, 32, 3)
    data = data.add_column("teacher_logits", [[0.5, -0.5, 0.0]] * len(data))
    batch = batch_of(data.select([0, 1, 2]), tokenizer)
    params = ikd_params(attention=kind, lambda_hidden=0.5, lambda_attention=2.0, lambda_embedding=3.0)
    ours, theirs = compared([0, 1], kind, embedding=True), compared([1, 3], kind, embedding=True)
    student.eval()
    loss, outputs = intermediate_objective(params, ours, LiveTargets(teacher, theirs))(student, batch)
    own, whole = (
        model.eval()(**model_inputs(batch), output_hidden_states=True).hidden_states for model in (student, teacher)
    )
    mask = batch["attention_mask"]
    attention = [
        intermediates(model, model_inputs(batch), side)[2] for model, side in ((student, ours), (teacher, theirs))
    ]
    hidden = [torch.stack([own[1], own[2]], 1), torch.stack([whole[2], whole[4]], 1)]  # projections are the identity
    expected = (
        hinton_loss(outputs["logits"], batch["teacher_logits"], batch["labels"], 4.0, 0.5)
        + 0.5 * hidden_mse(*hidden, mask)
        + 2.0 * attention_mse(*attention, mask)
        + 3.0 * hidden_mse(own[0][:, None], whole[0][:, None], mask)
    )
    torch.testing.assert_close(loss, expected)


def test_distillation_draws_the_student_to_the_teacher_and_leaves_no_projection(distillation, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    student, tokenizer, data, teacher = distillation
    train_set, targets = teacher_targets(data, teacher, tokenizer, TEACHER, tmp_path / "targets")
    params = ikd_params(alpha=1.0, epochs=8, patience=8, learning_rate=3e-3)
    objective = intermediate_objective(params, compared([0, 1]), targets)
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
    add_projections(narrow, 32, 3)
    batch = {
        **tokenizer(TEXTS, padding=True, return_tensors="pt"),
        "labels": torch.tensor([0, 1, 2]),
        "teacher_logits": torch.zeros(3, 3),
    }
    params = ikd_params(lambda_embedding=1.0)
    objective = intermediate_objective(params, compared([0, 1], embedding=True), LiveTargets(teacher, WHOLE))
    objective(narrow, batch)[0].backward()
    assert all(projection.weight.grad.abs().sum() > 0 for projection in narrow.projections)
