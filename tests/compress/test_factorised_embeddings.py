"""Factorised embeddings: exact where they can be."""

import numpy as np
import pytest
import torch
from conftest import LABELS, make_tokenizer
from random_classifiers import TEXTS, classifier, logits
from transformers import AutoModelForSequenceClassification

from fincompress.compress.factorised_embeddings import factorised
from fincompress.compress.pruning import remove
from fincompress.core.errors import InputError
from fincompress.networks.checkpoints import load_model, save
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx
from fincompress.runtimes.registry import open_classifier

TYPES = ("bert", "distilbert", "roberta")
WIDTH = 32


def uneven(model_type: str):
    """A random classifier whose embeddings are normalised with weights that differ, as trained ones are."""
    model = classifier(model_type)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.base_model.embeddings.parameters():
            parameter.normal_(std=0.5)
    return model


def hidden(model) -> torch.Tensor:
    """What the encoder computes of `TEXTS`, [texts, seq, width]."""
    batch = make_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        states = model.base_model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"])[0]
    return states * batch["attention_mask"][..., None]


@pytest.mark.parametrize("model_type", TYPES)
def test_a_subspace_that_holds_the_embeddings_changes_nothing_that_the_encoder_computes(model_type):
    model = uneven(model_type)
    whole = factorised(model, WIDTH + 1)
    assert whole.config.embedding_size == WIDTH + 1
    torch.testing.assert_close(hidden(whole), hidden(model), atol=2e-4, rtol=1e-4)


def test_the_larger_the_subspace_the_nearer_are_the_embeddings():
    model = uneven("bert")
    with torch.no_grad():
        model.base_model.embeddings.word_embeddings.weight.mul_(torch.linspace(4, 0, WIDTH))  # so that some count more
    batch = make_tokenizer()(TEXTS, padding=True, return_tensors="pt")

    def embedded(network) -> torch.Tensor:
        with torch.inference_mode():
            return network.base_model(**batch, output_hidden_states=True).hidden_states[0]

    errors = [float((embedded(factorised(model, size)) - embedded(model)).pow(2).mean()) for size in (4, 12, 24, 33)]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 1e-6 < errors[0]


@pytest.mark.parametrize("model_type", TYPES)
def test_transformers_opens_a_factorised_checkpoint_and_onnx_runtime_serves_it(model_type, tmp_path):
    student, tokenizer = factorised(uneven(model_type), 8), make_tokenizer()
    tokenizer.model_max_length = 48
    save(student, tokenizer, tmp_path / "small", {})
    opened = AutoModelForSequenceClassification.from_pretrained(tmp_path / "small").eval()
    torch.testing.assert_close(logits(opened, tokenizer), logits(student, tokenizer))
    assert list(opened.config.id2label.values()) == LABELS
    to_onnx(tmp_path / "small", tmp_path / "onnx")
    found = predict_logits(open_classifier(tmp_path / "onnx", "onnxruntime", 1), TEXTS)
    np.testing.assert_allclose(found, logits(student, tokenizer).numpy(), atol=1e-4)


def test_a_pruned_network_stays_pruned(tmp_path):
    model = uneven("bert")
    remove(model, [(0, 1), (2, 0), (2, 3)], [np.arange(5), np.arange(9), np.arange(3)])
    student = factorised(model, WIDTH + 1)
    torch.testing.assert_close(hidden(student), hidden(model), atol=2e-4, rtol=1e-4)
    save(student, make_tokenizer(), tmp_path / "small", {})
    torch.testing.assert_close(hidden(load_model(str(tmp_path / "small"))), hidden(student))


def test_what_cannot_be_factorised_is_refused():
    for size in (1, WIDTH):
        with pytest.raises(InputError, match=f"{size} numbers are no factorised embedding"):
            factorised(classifier("bert"), size)
    with pytest.raises(InputError, match="are factorised already"):
        factorised(classifier("electra"), 8)
