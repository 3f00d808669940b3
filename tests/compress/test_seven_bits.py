"""int8 for ONNX Runtime answers the same on every CPU: no sum of its integer products saturates."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import pytest
import torch
from conftest import make_checkpoint
from onnx import TensorProto, helper, numpy_helper

from fincompress.compress.ptq import quantize_onnx, to_onnx_int8
from fincompress.core.sections import PtqParams
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.onnxruntime import OnnxClassifier

PARAMS = PtqParams(calibration_samples=4, keep_classifier_float=False, embedding_group=None)
PRODUCTS = ("MatMulInteger", "QAttention", "QLinearMatMul")


def session(file: Path, exact: bool = False) -> onnxruntime.InferenceSession:
    """One thread, with the kernels that ONNX Runtime chooses for this CPU or with those that never saturate."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.add_session_config_entry("session.x64quantprecision", "1" if exact else "0")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def linear(weight: np.ndarray) -> onnx.ModelProto:
    """A graph from x [rows, inputs] to y = x @ weight."""
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "weight"], ["y"], name="product")],
        "linear",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", weight.shape[0]])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", weight.shape[1]])],
        [numpy_helper.from_array(weight, "weight")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def quantised_product(x: np.ndarray, weight: np.ndarray, bits: int, saturating: bool = False) -> np.ndarray:
    """x @ weight with activations of 8 bits over the range of all of x, and weights of `bits` with a scale per column.

    Args:
        saturating: add products in pairs of 16 bits, as `vpmaddubsw` does on CPUs without VNNI.
    """
    low, high = min(x.min(), np.float32(0)), max(x.max(), np.float32(0))
    x_scale = (high - low) / np.float32(255)
    zero = np.clip(np.rint(-low / x_scale), 0, 255).astype(np.int32)
    x_integers = np.clip(np.rint(x / x_scale) + zero, 0, 255).astype(np.int32)
    w_scale = np.abs(weight).max(axis=0) * 2 / np.float32({7: 128, 8: 254}[bits])
    w_integers = np.rint(weight / w_scale).astype(np.int32)
    pairs = x_integers[:, ::2, None] * w_integers[::2] + x_integers[:, 1::2, None] * w_integers[1::2]
    total = (pairs.clip(-(2**15), 2**15 - 1) if saturating else pairs).sum(axis=1)
    return (total - zero * w_integers.sum(axis=0)) * (x_scale * w_scale)


@pytest.fixture
def large() -> tuple[np.ndarray, np.ndarray]:
    """x [5, 64] and weight [64, 16] in which neighbouring products are large and of one sign."""
    rng = np.random.default_rng(0)
    weight = (rng.choice([-1.0, 1.0], (32, 16)) * rng.uniform(0.7, 1.0, (32, 16))).repeat(2, axis=0)
    return rng.uniform(0.4, 1.0, (5, 64)).astype(np.float32), weight.astype(np.float32)


def test_the_dynamic_product_is_what_its_definition_says(tmp_path):
    rng = np.random.default_rng(1)
    x = rng.normal(size=(7, 48)).astype(np.float32)
    weight = (rng.normal(size=(48, 10)) * rng.uniform(0.1, 3, 10)).astype(np.float32)
    quantize_onnx(linear(weight), tmp_path / "model.onnx", keep_classifier_float=False)
    (y,) = session(tmp_path / "model.onnx").run(None, {"x": x})
    np.testing.assert_allclose(y, quantised_product(x, weight, bits=7), atol=1e-4)
    assert np.abs(y - x @ weight).max() > 1e-2, "nothing was rounded"
    assert np.abs(y - quantised_product(x, weight, bits=8)).max() > 1e-2, "both bits round alike: no need of this test"


def test_products_that_would_saturate_with_8_bits_are_exact_with_7(large, tmp_path):
    x, weight = large
    exact, saturated = (quantised_product(x, weight, 8, saturating) for saturating in (False, True))
    assert np.abs(exact - saturated).max() > 1, "nothing would saturate: no need of this test"
    np.testing.assert_array_equal(quantised_product(x, weight, 7), quantised_product(x, weight, 7, saturating=True))
    for bits in (7, 8):
        quantize_onnx(linear(weight), tmp_path / f"{bits}.onnx", keep_classifier_float=False, seven_bits=bits == 7)
    default, promoted = (session(tmp_path / "7.onnx", exact).run(None, {"x": x})[0] for exact in (False, True))
    np.testing.assert_array_equal(default, promoted)
    (eight,) = session(tmp_path / "8.onnx").run(None, {"x": x})
    matches = [np.allclose(eight, expected, atol=1e-3) for expected in (exact, saturated)]
    assert sum(matches) == 1, "this CPU's kernels are neither exact nor saturate in pairs"


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


def answers(folder: Path, texts: list[str], exact: bool) -> np.ndarray:
    """Logits from the kernels that ONNX Runtime takes on this CPU, or from those that never sum in 16 bits."""
    classifier = OnnxClassifier(folder, threads=1)
    classifier.session = session(folder / "model.onnx", exact)
    return predict_logits(classifier, texts)


def test_default_and_exact_kernels_give_the_same_answers(model):
    texts = read_embedded()["text"].iloc[::30].tolist()
    default, exact = (answers(model, texts, exact) for exact in (False, True))
    np.testing.assert_allclose(default, exact, atol=1e-5)
    assert np.ptp(default, axis=0).max() > 0.1, "answers that do not depend on the text would prove nothing"


@pytest.mark.e2e
def test_one_file_says_the_same_on_the_whole_test_split_whatever_the_kernels(finished_project):
    texts = pd.read_csv(finished_project.root / "data/test.csv")["text"].tolist()
    folders = sorted((finished_project.root / "models/ptq").glob("*_ort_int8"))
    assert len(folders) == 6
    for folder in folders:
        default, exact = (answers(folder, texts, exact) for exact in (False, True))
        np.testing.assert_array_equal(default.argmax(axis=1), exact.argmax(axis=1), err_msg=folder.name)
