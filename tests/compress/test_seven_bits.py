"""int8 for ONNX Runtime answers the same on every CPU: no sum of its integer products saturates."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from conftest import make_checkpoint
from onnx import numpy_helper

from fincompress.compress.ptq import to_onnx_int8
from fincompress.core.sections import PtqParams
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.onnxruntime import OnnxClassifier

PARAMS = PtqParams(calibration_samples=4, keep_classifier_float=False)
PRODUCTS = ("MatMulInteger", "QAttention", "QLinearMatMul")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    """A converted network of large weights, whose integer products are as large as they can get."""
    root = tmp_path_factory.mktemp("saturating")
    checkpoint = make_checkpoint(root / "start", layers=2, hidden_size=64)
    network = load_model(str(checkpoint))
    torch.manual_seed(0)
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            if tensor.dim() == 2 and "embeddings" not in name:  # most weights at the end of their channel's range
                tensor.copy_(0.2 * torch.sign(torch.randn_like(tensor)) * (1 - 0.1 * torch.rand_like(tensor)))
    save(network, load_tokenizer(str(checkpoint), 48), root / "large", {})
    to_onnx_int8(root / "large", root / "int8", PARAMS)
    return root / "int8"


def test_every_weight_of_an_integer_product_is_held_to_seven_bits(model):
    graph = onnx.load(model / "model.onnx").graph
    weights = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    multiplied = [
        weights[name]
        for node in graph.node
        if node.op_type in PRODUCTS
        for name in node.input
        if name in weights and weights[name].ndim == 2
    ]
    assert len(multiplied) >= 2 * 4 + 2
    assert {array.dtype for array in multiplied} == {np.dtype(np.int8)}
    assert max(int(np.abs(array.astype(int)).max()) for array in multiplied) == 64
    assert 2 * 255 * 64 < 2**15, "two products fit into the sum of a CPU without VNNI"


def answers(folder: Path, texts: list[str], monkeypatch, exact: bool) -> np.ndarray:
    """Logits from the kernels that ONNX Runtime takes on this CPU, or from those that never sum in 16 bits."""
    if exact:
        plain = onnxruntime.SessionOptions

        def options():
            made = plain()
            made.add_session_config_entry("session.x64quantprecision", "1")
            return made

        monkeypatch.setattr(onnxruntime, "SessionOptions", options)
    logits = predict_logits(OnnxClassifier(folder, threads=1), texts)
    monkeypatch.undo()
    return logits


def test_default_and_exact_kernels_give_the_same_answers(model, monkeypatch):
    texts = read_embedded()["text"].iloc[::30].tolist()
    default, exact = (answers(model, texts, monkeypatch, exact) for exact in (False, True))
    np.testing.assert_allclose(default, exact, atol=1e-5)
    assert np.ptp(default, axis=0).max() > 0.1, "answers that do not depend on the text would prove nothing"


@pytest.mark.e2e
def test_one_file_says_the_same_on_the_whole_test_split_whatever_the_kernels(finished_project, monkeypatch):
    texts = pd.read_csv(finished_project.root / "data/test.csv")["text"].tolist()
    folders = sorted((finished_project.root / "models/ptq").glob("*_ort_int8"))
    assert len(folders) == 5
    for folder in folders:
        default, exact = (answers(folder, texts, monkeypatch, exact) for exact in (False, True))
        np.testing.assert_array_equal(default.argmax(axis=1), exact.argmax(axis=1), err_msg=folder.name)
