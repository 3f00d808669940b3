"""The tiny student: nothing is lost that was not asked to go, and what is left learns, whatever the teacher is."""

import numpy as np
import pytest
import torch
from conftest import LABELS, few_rows
from random_classifiers import HEADS, LAYERS, TEXTS, WIDTH, classifier, logits
from settings import training_params

from fincompress.compress.answers import answers
from fincompress.compress.soft_labels import hinton_loss
from fincompress.compress.tiny import add_targets, build_tiny, tiny_objective, with_layers
from fincompress.core.errors import InputError
from fincompress.core.sections import TinyParams
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.networks.logits import model_logits
from fincompress.networks.structure import is_pruned, structure_of
from fincompress.networks.training import train
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx
from fincompress.runtimes.registry import open_classifier

TYPES = ("bert", "distilbert", "roberta", "electra")


def tiny_params(**changes) -> TinyParams:
    """The whole network, with changes."""
    values = {
        **dict(training_params(epochs=1, dropout=0.0)),
        "source": "teacher",
        "layers": LAYERS,
        "layer_selection": "first",
        "attention_heads": HEADS,
        "intermediate_size": WIDTH,
        "importance": "fisher",
        "importance_batches": 1,
        "vocabulary_min_count": None,
        "embedding_size": None,
        "temperature": 2.0,
        "alpha": 0.8,
        "lambda_hidden": 1.0,
    }
    return TinyParams(**{**values, **changes})


def built(model_type: str, tokenizer, rows, **changes):
    rows = rows if model_type in ("bert", "electra") else rows.remove_columns("token_type_ids")
    return build_tiny(classifier(model_type), tokenizer, rows, [*TEXTS, "all of it"], tiny_params(**changes), seed=0)


@pytest.mark.parametrize("model_type", TYPES)
def test_where_nothing_is_asked_to_go_the_answers_stay(model_type, tokenizer, rows):
    model, same = built(model_type, tokenizer, rows)
    assert same is tokenizer and not is_pruned(model.config)
    reserved = 2 if model_type == "roberta" else 0
    assert model.config.max_position_embeddings == 48 + reserved, "texts are cut there anyway"
    torch.testing.assert_close(logits(model, tokenizer), logits(classifier(model_type), tokenizer))


def test_pieces_that_no_text_uses_can_go_without_changing_an_answer(tokenizer, rows):
    model, smaller = built("bert", tokenizer, rows, vocabulary_min_count=1)
    assert len(smaller) == model.config.vocab_size < len(tokenizer)
    torch.testing.assert_close(logits(model, smaller), logits(classifier(), tokenizer))


@pytest.mark.parametrize("model_type", TYPES)
def test_layers_heads_neurons_and_embeddings_have_the_size_that_was_asked_for(model_type, tokenizer, rows, tmp_path):
    size = None if model_type == "electra" else 16  # its embeddings are factorised already
    model, smaller = built(
        model_type,
        tokenizer,
        rows,
        layers=2,
        layer_selection="evenly_spaced",
        attention_heads=2,
        intermediate_size=24,
        vocabulary_min_count=1,
        embedding_size=size,
    )
    structure = structure_of(model)
    assert [len(heads) for heads in structure.kept_heads] == [2, 2] and structure.ffn_widths == [24, 24]
    assert model.get_input_embeddings().weight.shape == (len(smaller), 16)
    save(model, smaller, tmp_path / "tiny", {})
    texts = few_rows(4)["text"].tolist()
    expected = predict_logits(open_classifier(tmp_path / "tiny", "torch", 1), texts)
    batch = load_tokenizer(str(tmp_path / "tiny"))(texts, padding=True, truncation=True, return_tensors="pt")
    with torch.inference_mode():
        again = load_model(str(tmp_path / "tiny"))(**batch).logits.numpy()
    np.testing.assert_allclose(again, expected, atol=1e-4)
    to_onnx(tmp_path / "tiny", tmp_path / "onnx")
    exported = predict_logits(open_classifier(tmp_path / "onnx", "onnxruntime", 1), texts)
    np.testing.assert_allclose(exported, expected, atol=1e-3)


def test_layers_are_those_of_the_source_in_their_order():
    model = classifier()
    part = with_layers(model, [0, 2], 512)
    weights, whole = part.state_dict(), model.state_dict()
    for ours, theirs in ((0, 0), (1, 2)):
        name = "bert.encoder.layer.{}.output.dense.weight"
        assert torch.equal(weights[name.format(ours)], whole[name.format(theirs)])


def test_equal_layers_with_all_their_heads_make_a_checkpoint_that_any_program_opens(tokenizer, rows):
    model, _ = built("bert", tokenizer, rows, intermediate_size=24)
    assert not is_pruned(model.config) and model.config.intermediate_size == 24
    fewer, _ = built("bert", tokenizer, rows, attention_heads=3)
    assert is_pruned(fewer.config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layers": 4}, "tiny.layers: 4 is more than the 3 of teacher"),
        ({"attention_heads": 5}, "tiny.attention_heads: 5 is more than the 4"),
        ({"intermediate_size": 65}, "tiny.intermediate_size: 65 is more than the 64"),
        ({"embedding_size": 32}, "tiny.embedding_size: 32 is the network's width"),
    ],
)
def test_more_than_the_source_has_is_refused(changes, message, tokenizer, rows):
    with pytest.raises(InputError, match=message):
        built("bert", tokenizer, rows, **changes)


def test_a_teachers_answers_are_its_logits(rows, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("fincompress.compress.answers.CHUNK", 10)
    found = answers(rows, classifier(), tokenizer, tmp_path)
    np.testing.assert_allclose(found, model_logits(rows, classifier(), tokenizer, "all at once"), atol=1e-5)
    assert found.dtype == np.float32 and found.shape == (24, 3)


def test_answers_that_an_interrupted_run_left_are_not_worked_out_again(rows, tokenizer, tmp_path, monkeypatch):
    monkeypatch.setattr("fincompress.compress.answers.CHUNK", 10)
    np.save(tmp_path / "answers-10.npy", np.full((10, 3), 7, np.float32))
    found = answers(rows, classifier(), tokenizer, tmp_path)
    assert (found[10:20] == 7).all() and (found[:10] != 7).all() and (found[20:] != 7).all()


@pytest.mark.parametrize("stored", [True, False])
def test_the_loss_is_hintons_and_the_error_of_hidden_states_on_the_same_pieces(
    stored, tokenizer, tmp_path, monkeypatch
):
    if not stored:
        monkeypatch.setattr("fincompress.compress.hidden_layers._DISK_SHARE", 0)
    rows, source = few_rows(8), classifier()
    params = tiny_params(lambda_hidden=0.5, layers=2, vocabulary_min_count=3, layer_selection="evenly_spaced")
    student, smaller = build_tiny(
        classifier(), tokenizer, tokenise(rows, LABELS, tokenizer), rows["text"].tolist(), params, seed=0
    )
    dataset = tokenise(rows, LABELS, smaller)
    assert dataset["length"] != tokenise(rows, LABELS, tokenizer)["length"], "some words are spelt with shorter pieces"
    training = dataset.add_column("teacher_logits", np.random.default_rng(0).normal(size=(24, 3)).tolist())
    training, targets = add_targets(training, smaller, source, tokenizer, [0, 2], tmp_path / "targets")
    names = [*smaller.model_input_names, "labels", "teacher_logits", "row"]
    batch = dict(smaller.pad(training.select_columns(names).to_list(), return_tensors="pt"))
    loss, outputs = tiny_objective(params, targets)(student, batch)
    soft = hinton_loss(outputs.logits, batch["teacher_logits"], batch["labels"], 2.0, 0.8)
    errors = []
    for row in dataset["input_ids"]:
        theirs = tokenizer.convert_tokens_to_ids(smaller.convert_ids_to_tokens(row))
        with torch.no_grad():
            ours, wanted = (
                model(input_ids=torch.tensor([ids]), output_hidden_states=True).hidden_states
                for model, ids in ((student, row), (source, theirs))
            )
        errors += [(ours[own][0] - wanted[other][0]).square().mean(dim=1) for own, other in ((1, 1), (2, 3))]
    torch.testing.assert_close(loss, soft + 0.5 * torch.cat(errors).mean(), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(tiny_objective(params, None)(student, batch)[0], soft)


@pytest.mark.parametrize("lambda_hidden", [0.0, 1.0])
def test_a_tiny_student_comes_nearer_to_its_teacher(lambda_hidden, tokenizer, tmp_path):
    teacher = classifier()
    rows = few_rows(24)
    for_teacher = tokenise(rows, LABELS, tokenizer)
    (tmp_path / "parts").mkdir()
    found = answers(for_teacher, teacher, tokenizer, tmp_path / "parts")
    params = tiny_params(
        layers=2,
        embedding_size=16,
        vocabulary_min_count=1,
        epochs=12,
        patience=12,
        alpha=1.0,
        lambda_hidden=lambda_hidden,
    )
    student, smaller = build_tiny(teacher, tokenizer, for_teacher, rows["text"].tolist(), params, seed=0)
    dataset = tokenise(rows, LABELS, smaller)
    training, targets = dataset, None
    if lambda_hidden:
        training, targets = add_targets(dataset, smaller, classifier(), tokenizer, [0, 1], tmp_path / "targets")
    training = training.add_column("teacher_logits", found.tolist())
    before = agreement(student, smaller, dataset, found)
    train(
        student,
        smaller,
        training,
        dataset,
        params,
        seed=0,
        scratch=tmp_path / "scratch",
        curves=tmp_path / "curves",
        objective=tiny_objective(params, targets),
    )
    assert agreement(student, smaller, dataset, found) > before + 0.1


def agreement(model, tokenizer, dataset, found: np.ndarray) -> float:
    """Share of rows that both give the same label."""
    batch = tokenizer.pad(dataset.select_columns(tokenizer.model_input_names).to_list(), return_tensors="pt")
    with torch.inference_mode():
        predicted = model.eval()(**batch).logits.argmax(dim=1).numpy()
    return float((predicted == found.argmax(axis=1)).mean())
