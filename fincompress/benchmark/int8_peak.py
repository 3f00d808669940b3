"""How much int8 arithmetic the machine can do, and which share of it a variant reaches."""

import re
import time
from pathlib import Path

import numpy as np
from safetensors import safe_open

from fincompress.core.files import read_json
from fincompress.core.runtimes import FLOOR
from fincompress.core.variants import Variant
from fincompress.networks.architectures import architecture_of

SIDE = 1024  # of the square matrices: large enough for all threads, small enough for the caches
PRODUCTS = 20


def int8_peak_gops(threads: int) -> float:
    """Billions of int8 operations a second in a plain product of two square matrices, in ONNX Runtime.

    Activations are unsigned and weights signed, as in the models. A multiplication and an addition count as two.
    """
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(0)
    weights = rng.integers(-64, 65, (SIDE, SIDE)).astype(np.int8)
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["activations", "weights"], ["product"])],
        "product",
        [helper.make_tensor_value_info("activations", TensorProto.UINT8, [SIDE, SIDE])],
        [helper.make_tensor_value_info("product", TensorProto.INT32, [SIDE, SIDE])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # on cores that the workers need next
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    activations = {"activations": rng.integers(0, 256, (SIDE, SIDE)).astype(np.uint8)}
    seconds = []
    for _ in range(PRODUCTS):
        start = time.perf_counter()
        session.run(None, activations)
        seconds.append(time.perf_counter() - start)
    return 2 * SIDE**3 / float(np.median(seconds)) / 1e9


def is_int8(variant: Variant) -> bool:
    """Whether a variant computes in int8."""
    return variant.runtime not in ("torch", FLOOR) and not variant.name.endswith("_fp32")


def linear_operations(checkpoint: Path, length: int, first_alone: bool = False) -> int:
    """Operations of the linear layers of a network's encoder for a text of `length` word pieces.

    Products of queries with keys and of attention with values are left out: most runtimes compute them in fp32. So is
    what follows the encoder, which sees one position, and what projects distances, which is the same for all texts.

    Args:
        first_alone: the last layer goes on with one position once it has attended, as in files for ONNX Runtime of
            networks whose attention is fused there.
    """
    config = read_json(checkpoint / "config.json")
    architecture = architecture_of(config["model_type"])
    inside = re.compile(rf"(?:^|\.){re.escape(architecture.layers)}\.(\d+)\.(.+)\.weight$")
    with safe_open(checkpoint / "model.safetensors", framework="numpy") as tensors:
        found = {name: inside.search(name) for name in tensors.keys()}  # noqa: SIM118, no mapping
        shapes = {match.groups(): tensors.get_slice(name).get_shape() for name, match in found.items() if match}
    after_attention = (architecture.attention_output, architecture.intermediate, architecture.output)
    parts = {architecture.query, architecture.key, architecture.value, *after_attention}
    sizes = {place: int(np.prod(shape)) for place, shape in shapes.items() if place[1] in parts}
    runs = config["num_hidden_layers"] if architecture.shared_layers else 1
    total = sum(sizes.values()) * runs * length
    if first_alone and architecture.fused_attention:
        last = str(max(int(layer) for layer, _ in sizes))
        total -= sum(sizes[last, part] for part in after_attention) * (length - 1)
    return 2 * total
