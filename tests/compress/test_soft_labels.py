"""The soft-label loss against independent computations, and students built from teachers."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LABELS, make_checkpoint
from scipy.special import log_softmax, softmax
from sklearn.utils.class_weight import compute_class_weight
from torch.nn import functional

from fincompress.compress.soft_labels import add_teacher_logits, hinton_loss, soft_label_objective
from fincompress.compress.student import build_student, select_layers
from fincompress.core.errors import InputError
from fincompress.core.sections import StudentParams
from fincompress.networks.batches import NO_LABEL, tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.training import balanced_weights

TEXTS = ["Profit rose.", "The firm said that sales of its older machines fell in every region last year.", "Up"]


def shape(**changes) -> StudentParams:
    values = {
        "layers": 2,
        "layer_selection": "evenly_spaced",
        "hidden_size": 32,
        "attention_heads": 4,
        "intermediate_size": 64,
        "init": "teacher",
        "revision": "main",
    }
    return StudentParams(**{**values, **changes})


@pytest.fixture
def batch():
    generator = np.random.default_rng(0)
    return generator.normal(size=(7, 3)) * 3, generator.normal(size=(7, 3)) * 3, generator.integers(0, 3, 7)


@pytest.mark.parametrize(("temperature", "alpha"), [(1.0, 0.5), (4.0, 0.9), (2.5, 0.0), (4.0, 1.0)])
def test_loss_equals_a_numpy_computation(batch, temperature, alpha):
    student, teacher, labels = batch
    log_p, q = log_softmax(student / temperature, axis=1), softmax(teacher / temperature, axis=1)
    divergence = (q * (np.log(q) - log_p)).sum(axis=1).mean()
    cross_entropy = -log_softmax(student, axis=1)[np.arange(7), labels].mean()
    expected = alpha * temperature**2 * divergence + (1 - alpha) * cross_entropy
    loss = hinton_loss(*map(torch.tensor, batch), temperature, alpha)
    assert loss.item() == pytest.approx(expected, rel=1e-9)


def test_a_row_without_a_label_learns_from_the_soft_one_alone(batch):
    student, teacher, labels = map(torch.tensor, batch)
    labels[[1, 4]] = NO_LABEL
    rows = [
        hinton_loss(student[[i]], teacher[[i]], labels[[i]].clamp(min=0), 3.0, 1.0 if i in (1, 4) else 0.4).item()
        * (0.4 if i in (1, 4) else 1)
        for i in range(7)
    ]
    assert hinton_loss(student, teacher, labels, 3.0, 0.4).item() == pytest.approx(sum(rows) / 7)
    student.requires_grad_()
    none = torch.full_like(labels, NO_LABEL)
    (gradient,) = torch.autograd.grad(hinton_loss(student, teacher, none, 3.0, 0.4), student)
    assert gradient.isfinite().all() and gradient.abs().sum() > 0


def test_loss_is_zero_for_a_perfect_copy_and_alpha_one(batch):
    logits = torch.tensor(batch[0])
    assert hinton_loss(logits, logits, torch.tensor(batch[2]), 4.0, 1.0).item() == pytest.approx(0, abs=1e-9)


def test_alpha_zero_is_plain_cross_entropy(batch):
    student, teacher, labels = map(torch.tensor, batch)
    assert hinton_loss(student, teacher, labels, 4.0, 0.0) == functional.cross_entropy(student, labels)


def test_t_squared_keeps_the_gradient_in_size(batch):
    """Hinton et al. 2015, section 2.1: at high temperatures the scaled gradient tends to (z - v) / labels, centred."""
    student, teacher, labels = map(torch.tensor, batch)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(hinton_loss(student, teacher, labels, 1e4, 1.0), student)
    difference = student.detach() - teacher
    expected = (difference - difference.mean(dim=1, keepdim=True)) / 3 / len(labels)
    torch.testing.assert_close(gradient, expected, rtol=1e-2, atol=1e-4)


@pytest.mark.parametrize(
    ("count", "total", "expected"),
    [(3, 6, [0, 2, 5]), (1, 6, [5]), (6, 6, [0, 1, 2, 3, 4, 5]), (4, 12, [0, 4, 7, 11]), (2, 12, [0, 11])],
)
def test_layers_are_evenly_spaced_from_first_to_last(count, total, expected):
    assert select_layers(count, total, "evenly_spaced") == expected


def test_the_first_layers_are_the_lower_ones():
    assert select_layers(4, 6, "first") == [0, 1, 2, 3]


@pytest.mark.parametrize(("selection", "pairs"), [("evenly_spaced", [(0, 0), (1, 3)]), ("first", [(0, 0), (1, 1)])])
def test_student_copies_the_teachers_layers_and_head(checkpoint, selection, pairs):
    student, tokenizer, _ = build_student(str(checkpoint), shape(layer_selection=selection))
    teacher = load_model(str(checkpoint))
    for ours, theirs in pairs:
        for mine, its in zip(
            student.bert.encoder.layer[ours].parameters(), teacher.bert.encoder.layer[theirs].parameters(), strict=True
        ):
            assert torch.equal(mine, its)
    assert torch.equal(student.classifier.weight, teacher.classifier.weight)
    assert student.config.num_hidden_layers == 2 and student.config.id2label == teacher.config.id2label
    assert tokenizer.get_vocab() == load_tokenizer(str(checkpoint)).get_vocab()


def test_a_student_of_all_layers_is_the_teacher(checkpoint):
    student, tokenizer, _ = build_student(str(checkpoint), shape(layers=4))
    inputs = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        torch.testing.assert_close(student(**inputs).logits, load_model(str(checkpoint))(**inputs).logits)


def test_a_student_from_another_checkpoint_takes_its_layers_under_a_fresh_head(checkpoint, tmp_path):
    narrow = make_checkpoint(tmp_path / "narrow", labels=["a", "b"], layers=3, hidden_size=16)
    chosen = shape(init=str(narrow), hidden_size=16, intermediate_size=32, layers=1)
    student, _, origin = build_student(str(checkpoint), chosen)
    assert origin == {"checkpoint": str(narrow), "revision": None, "commit": None}
    source = load_model(str(narrow))
    assert torch.equal(
        student.bert.encoder.layer[0].output.dense.weight, source.bert.encoder.layer[2].output.dense.weight
    )
    assert student.classifier.out_features == 3


def test_a_random_student_may_have_any_shape(checkpoint):
    student, _, _ = build_student(
        str(checkpoint), shape(init="random", layers=7, hidden_size=48, attention_heads=6, intermediate_size=10)
    )
    assert student.config.num_hidden_layers == 7 and student.bert.embeddings.word_embeddings.weight.shape[1] == 48


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 5}, r"student\.layers: 5 is more than the 4"),
        ({"hidden_size": 64}, r"student\.hidden_size: 64 does not fit"),
        ({"intermediate_size": 65}, r"student\.intermediate_size"),
        ({"attention_heads": 2}, r"student\.attention_heads: 2 does not fit"),
        ({"init": "minilm", "hidden_size": 384, "attention_heads": 12}, r"another vocabulary"),
        ({"init": "./no-such-folder"}, r"student\.init: \./no-such-folder: no such folder"),
    ],
)
def test_a_student_that_cannot_be_built_names_the_key(checkpoint, changes, message):
    with pytest.raises(InputError, match=message):
        build_student(str(checkpoint), shape(**changes))


def test_teacher_logits_are_those_of_each_text_alone(checkpoint):
    teacher, tokenizer = load_model(str(checkpoint)), load_tokenizer(str(checkpoint))
    frame = pd.DataFrame({"text": TEXTS * 30, "label": ["positive", "negative", "neutral"] * 30})  # several batches
    dataset = add_teacher_logits(tokenise(frame, LABELS, tokenizer), teacher, tokenizer)
    for text, stored in zip(TEXTS, dataset["teacher_logits"][-len(TEXTS) :], strict=True):
        with torch.inference_mode():
            alone = teacher(**tokenizer(text, return_tensors="pt")).logits[0]
        torch.testing.assert_close(torch.tensor(stored), alone, rtol=0, atol=1e-5)


def test_objective_reads_the_batch_and_leaves_it_whole(checkpoint):
    student, tokenizer, _ = build_student(str(checkpoint), shape())
    batch = dict(tokenizer(TEXTS, padding=True, return_tensors="pt"))
    batch |= {"labels": torch.tensor([2, 0, 1]), "teacher_logits": torch.randn(3, 3)}
    names = set(batch)
    loss, outputs = soft_label_objective(4.0, 0.5)(student, batch)
    assert loss == hinton_loss(outputs.logits, batch["teacher_logits"], batch["labels"], 4.0, 0.5)
    assert set(batch) == names


def test_balanced_classes_weigh_as_scikit_learn_weighs_them(batch):
    student, _, labels = batch
    counts = np.bincount(labels, minlength=3)
    expected = len(labels) / (np.count_nonzero(counts) * counts)
    weights = balanced_weights([*labels.tolist(), NO_LABEL], 3)
    assert weights.numpy() == pytest.approx(compute_class_weight("balanced", classes=np.arange(3), y=labels))
    losses = -log_softmax(student, axis=1)[np.arange(7), labels] * expected[labels]
    found = hinton_loss(*map(torch.tensor, batch), 4.0, 0.0, weights.double())
    assert found.item() == pytest.approx(losses.mean(), rel=1e-6)
