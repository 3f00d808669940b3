"""One interface, the same answers from every runtime."""

import sys

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import LABELS, ROOT
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from fincompress.benchmark.records import count_parameters
from fincompress.core.errors import InputError
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.bag_of_words import BagOfWords
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import to_onnx
from fincompress.runtimes.registry import open_classifier

TEXTS = read_embedded()["text"].head(12).tolist()


@pytest.fixture(scope="module")
def saved(checkpoint, tmp_path_factory):
    """The tiny checkpoint as a stage saves it, with a cutting length of 32 pieces."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save(load_model(str(checkpoint)), load_tokenizer(str(checkpoint), 32), folder, {})
    return folder


@pytest.fixture(scope="module")
def exported(saved, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "onnx"
    to_onnx(saved, folder)
    return folder


def reference(saved) -> np.ndarray:
    """Logits by transformers alone, one text at a time."""
    model, tokenizer = load_model(str(saved)), load_tokenizer(str(saved))
    with torch.inference_mode():
        return np.stack(
            [model(**tokenizer(text, truncation=True, return_tensors="pt")).logits[0].numpy() for text in TEXTS]
        )


def test_torch_gives_the_logits_of_transformers(saved):
    classifier = open_classifier(saved, "torch", threads=1)
    assert classifier.labels == LABELS
    np.testing.assert_allclose(predict_logits(classifier, TEXTS, batch_size=5), reference(saved), atol=1e-5)


def test_a_converted_model_does_not_tell_where_it_was_made(exported):
    content = (exported / "model.onnx").read_bytes()
    assert str(ROOT).encode() not in content and sys.prefix.encode() not in content


def test_onnx_runtime_gives_the_logits_of_transformers(saved, exported):
    classifier = open_classifier(exported, "onnxruntime", threads=1)
    assert classifier.labels == LABELS
    np.testing.assert_allclose(predict_logits(classifier, TEXTS, batch_size=5), reference(saved), atol=1e-5)


@pytest.mark.parametrize("runtime", ["torch", "onnxruntime"])
def test_padding_changes_no_logit(saved, exported, runtime):
    classifier = open_classifier(saved if runtime == "torch" else exported, runtime, threads=1)
    padded = classifier.encode(TEXTS[:1], pad_to=32)
    assert padded["input_ids"].shape == (1, 32)
    np.testing.assert_allclose(classifier.logits(padded), classifier.logits(classifier.encode(TEXTS[:1])), atol=1e-5)


def test_texts_are_cut_at_the_saved_length(saved):
    encoded = open_classifier(saved, "torch", threads=1).encode(["profit " * 100])
    assert encoded["input_ids"].shape == (1, 32)


@pytest.mark.parametrize("runtime", ["torch", "torch_int8", "onnxruntime", "openvino", "bag_of_words"])
def test_a_folder_without_the_model_is_one_clear_error(tmp_path, runtime):
    with pytest.raises(InputError, match="dvc repro"):
        open_classifier(tmp_path, runtime, threads=1)


def test_parameters_are_those_of_the_model(saved):
    assert count_parameters(saved) == sum(tensor.numel() for tensor in load_model(str(saved)).parameters())


@pytest.mark.parametrize("labels", [LABELS, ["negative", "positive"]])
def test_bag_of_words_is_tfidf_and_logistic_regression(tmp_path, labels):
    frame = read_embedded().head(300)
    frame = frame[frame["label"].isin(labels)]
    BagOfWords.fit(frame, labels).save(tmp_path / "model")
    loaded = open_classifier(tmp_path / "model", "bag_of_words", threads=1)
    vectoriser = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    model = LogisticRegression(C=10, max_iter=1000).fit(vectoriser.fit_transform(frame["text"]), frame["label"])
    expected = model.predict(vectoriser.transform(TEXTS))
    predicted = np.array(loaded.labels)[predict_logits(loaded, TEXTS).argmax(axis=1)]
    assert pd.Series(predicted).tolist() == expected.tolist()
    probabilities = model.predict_proba(vectoriser.transform(TEXTS))
    logits = predict_logits(loaded, TEXTS).astype(np.float64)
    softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(softmax, probabilities, atol=2e-2)
