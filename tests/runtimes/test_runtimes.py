"""One interface, the same answers from every runtime."""

import sys

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from conftest import LABELS, ROOT
from random_classifiers import classifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression

from fincompress.benchmark.records import count_parameters
from fincompress.core.errors import InputError
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.bag_of_words import BagOfWords
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.convert import as_onnx, first_position_alone, fused, to_onnx
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


@pytest.mark.parametrize("model_type", ["bert", "distilbert", "roberta", "electra"])
def test_after_the_last_attention_the_first_position_goes_on_alone_and_no_answer_changes(model_type):
    model = classifier(model_type)
    whole = fused(as_onnx(model), model)
    cut = first_position_alone(onnx.ModelProto.FromString(whole.SerializeToString()))
    inputs = {
        "input_ids": np.random.default_rng(0).integers(5, 500, (3, 11)),
        "attention_mask": np.array([[1] * 11, [1] * 6 + [0] * 5, [1] * 11]),
        "token_type_ids": np.zeros((3, 11), np.int64),
    }
    found = []
    for graph in (whole, cut):
        graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in normalised(graph))
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options())
        takes = [node.name for node in session.get_inputs()]
        found.append(session.run(None, {name: inputs[name] for name in takes}))
    np.testing.assert_array_equal(found[0][0], found[1][0])
    lengths = [[state.shape[1] for state in states[1:]] for states in found]
    assert lengths[0] == [11] * len(lengths[0])
    assert lengths[1] == [11] * (len(lengths[1]) - 2) + [1, 1], "both normalisations of the last layer"


def normalised(graph: onnx.ModelProto) -> list[str]:
    """What every normalisation gives, in order."""
    return [node.output[0] for node in graph.graph.node if node.op_type == "LayerNormalization"]


def options() -> onnxruntime.SessionOptions:
    """Every operator as it is written, so that its output can be looked at."""
    plain = onnxruntime.SessionOptions()
    plain.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return plain


def test_a_head_that_reads_every_position_is_left_as_it_is():
    model = classifier()
    graph = fused(as_onnx(model), model)
    (choice,) = (node for node in graph.graph.node if node.op_type == "Gather" and "pooler" in node.output[0])
    mean = onnx.helper.make_node("ReduceMean", [choice.input[0]], list(choice.output), axes=[1], keepdims=0)
    place = list(graph.graph.node).index(choice)
    graph.graph.node.remove(choice)
    graph.graph.node.insert(place, mean)
    before = graph.SerializeToString(deterministic=True)
    assert first_position_alone(graph).SerializeToString(deterministic=True) == before


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
