"""Heads are matched to labels by name, and what is saved is a plain transformers checkpoint."""

import numpy as np
import pytest
import torch
from conftest import LABELS, make_checkpoint
from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

from fincompress.core.errors import InputError
from fincompress.networks.checkpoints import (
    has_head_for,
    load_config,
    load_for_labels,
    load_model,
    load_tokenizer,
    save,
)
from fincompress.networks.locate import locate

SENTENCES = ["Profit rose sharply.", "The board met on Tuesday.", "Costs ran out of control again this year."]


def logits(model, tokenizer) -> np.ndarray:
    with torch.inference_mode():
        return model(**tokenizer(SENTENCES, padding=True, return_tensors="pt")).logits.numpy()


def test_minilm_is_a_real_checkpoint_in_an_installed_package():
    config = load_config(locate("minilm", "main", "teacher", "checkpoint").folder)
    assert (config.model_type, config.num_hidden_layers, config.hidden_size) == ("bert", 6, 384)


def test_a_head_counts_where_it_has_every_label(checkpoint, tmp_path):
    assert has_head_for(str(checkpoint), ["Positive", "neutral", "NEGATIVE"]) and has_head_for(
        str(checkpoint), LABELS[:2]
    )
    assert not has_head_for(str(checkpoint), [*LABELS, "mixed"])
    assert not has_head_for(locate("minilm", "main", "teacher", "checkpoint").folder, ["LABEL_0", "LABEL_1"])


@pytest.mark.parametrize("order", [["positive", "negative", "neutral"], ["Neutral", "POSITIVE", "negative"]])
def test_a_permuted_head_gives_the_same_score_to_each_name(checkpoint, tmp_path, order):
    permuted = make_checkpoint(tmp_path / "permuted", labels=order)
    original = AutoModelForSequenceClassification.from_pretrained(permuted).eval()
    model, tokenizer = load_for_labels(str(permuted), LABELS, max_length=48)
    ours, theirs = logits(model.eval(), tokenizer), logits(original, tokenizer)
    names = [name.casefold() for name in order]
    for index, label in enumerate(LABELS):
        np.testing.assert_allclose(ours[:, index], theirs[:, names.index(label)], atol=1e-6)
    assert model.config.id2label == dict(enumerate(LABELS))


def test_labels_without_an_output_start_afresh_and_the_others_are_kept(checkpoint):
    model, tokenizer = load_for_labels(str(checkpoint), ["mixed", "positive"], max_length=48)
    original = load_model(str(checkpoint))
    ours, theirs = logits(model.eval(), tokenizer), logits(original, tokenizer)
    np.testing.assert_allclose(ours[:, 1], theirs[:, LABELS.index("positive")], atol=1e-6)
    assert ours.shape == (3, 2) and model.config.num_labels == 2


def test_an_encoder_gets_a_head_for_our_labels(checkpoint, tmp_path):
    load_model(str(checkpoint)).bert.save_pretrained(tmp_path)
    load_tokenizer(str(checkpoint)).save_pretrained(tmp_path)
    model, _ = load_for_labels(str(tmp_path), ["a", "b", "c", "d"], max_length=48)
    assert model.classifier.out_features == 4
    assert torch.equal(
        model.bert.embeddings.word_embeddings.weight, load_model(str(checkpoint)).bert.embeddings.word_embeddings.weight
    )


def test_a_saved_model_opens_with_transformers_alone(checkpoint, tmp_path):
    model, tokenizer = load_for_labels(str(checkpoint), LABELS, max_length=48)
    save(model, tokenizer, tmp_path / "saved", {"val_macro_f1": 0.5})
    assert {path.suffix for path in (tmp_path / "saved").iterdir()} == {".json", ".safetensors"}
    reloaded = AutoModelForSequenceClassification.from_pretrained(tmp_path / "saved").eval()
    np.testing.assert_array_equal(
        logits(reloaded, AutoTokenizer.from_pretrained(tmp_path / "saved")), logits(model.eval(), tokenizer)
    )
    answer = pipeline("text-classification", str(tmp_path / "saved"))("Profit rose.")[0]
    assert answer["label"] in LABELS


def test_a_failed_save_leaves_the_old_model(checkpoint, tmp_path):
    model, tokenizer = load_for_labels(str(checkpoint), LABELS, max_length=48)
    save(model, tokenizer, tmp_path / "saved", {"val_macro_f1": 0.5})
    with pytest.raises(TypeError):
        save(model, tokenizer, tmp_path / "saved", {"not": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert load_model(str(tmp_path / "saved")) is not None


@pytest.mark.parametrize("name", ["no/such-checkpoint", "no-such-folder"])
def test_a_missing_checkpoint_is_one_clear_error(name, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(InputError, match=name):
        load_config(name)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_a_folder_without_a_tokenizer_is_an_error_and_not_a_tokenizer_that_knows_no_word(tmp_path, kind):
    (tmp_path / "config.json").write_text(f'{{"model_type": "{kind}"}}')
    with pytest.raises(InputError, match="no tokenizer: no vocabulary there"):
        load_tokenizer(str(tmp_path))


def test_too_long_a_max_length_is_named(checkpoint):
    with pytest.raises(InputError, match=r"teacher\.max_length: 65 is over the 64"):
        load_for_labels(str(checkpoint), LABELS, max_length=65)
