"""Post-training quantisation to int8: weights, embeddings and activations, for OpenVINO and for ONNX Runtime.

For OpenVINO it is static, by NNCF (Kozlov et al. 2020, arXiv:2002.08679): activations are smoothed into the weights
(SmoothQuant, Xiao et al. 2023, arXiv:2211.10438) and their ranges are calibrated on training texts. For ONNX Runtime it
is dynamic: the ranges of activations are found at run time, over everything fed at once (`runtimes.base` feeds such a
model one text at a time), and nothing is calibrated.
"""

from collections.abc import Sequence
from pathlib import Path

import onnx
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from fincompress.compress.embedding_codes import with_codes
from fincompress.core.files import atomic_folder
from fincompress.core.sections import PtqParams, QuantizationParams
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.runtimes.base import ACTIVATIONS, DYNAMIC
from fincompress.runtimes.convert import as_openvino, carry, optimised, save_openvino
from fincompress.runtimes.pytorch import TorchInt8Classifier
from fincompress.runtimes.quiet import load_nncf, openvino, quiet

SEED = 0  # of the fit of a book of codes, which is part of the format and no choice of a run


def nncf_options(ignored: list[str]) -> dict:
    """How NNCF quantises a classifier, after training or during it.

    Weights use half of int8's range, so that products cannot overflow the 16-bit sums of CPUs without VNNI: a model
    predicts the same on every CPU.

    Args:
        ignored: names of operations that stay in fp32.
    """
    nncf = load_nncf()
    fix = nncf.quantization.advanced_parameters.OverflowFix.ENABLE
    return {
        "model_type": nncf.ModelType.TRANSFORMER,
        "ignored_scope": nncf.IgnoredScope(names=ignored),
        "advanced_parameters": nncf.AdvancedQuantizationParameters(overflow_fix=fix),
    }


def to_openvino_int8(checkpoint: Path, out: Path, params: QuantizationParams, texts: list[str]) -> None:
    """Write the checkpoint as a self-contained int8 OpenVINO folder, calibrated on `texts`."""
    nncf = load_nncf()
    tokenizer = load_tokenizer(str(checkpoint))
    graph = as_openvino(load_model(str(checkpoint)))
    names = [port.any_name for port in graph.inputs]

    def inputs(text: str) -> dict:
        encoded = tokenizer([text], truncation=True, return_tensors="np")
        return {name: encoded[name] for name in names}

    ignored = [_last_matmul(graph)] if params.keep_classifier_float else []
    with atomic_folder(out) as folder:
        with quiet():
            graph = nncf.quantize(graph, nncf.Dataset(texts, inputs), subset_size=len(texts), **nncf_options(ignored))
        save_openvino(graph, checkpoint, folder)


def to_onnx_int8(checkpoint: Path, out: Path, params: PtqParams, texts: Sequence[str] = ()) -> None:
    """Write the checkpoint as a self-contained folder for ONNX Runtime, with int8 weights and one scale per channel.

    Word embeddings are written as codes (see `embedding_codes`) if `params` says how many numbers share one.

    Args:
        texts: ignored, because ranges of activations are found when the model runs.
    """
    source = load_model(str(checkpoint))
    with atomic_folder(out) as folder:
        graph = optimised(source)
        kept = [with_codes(graph, params.embedding_group, SEED)] if params.embedding_group else []
        quantize_onnx(graph, folder / "model.onnx", params.keep_classifier_float, kept=kept)
        carry(checkpoint, folder)


def quantize_onnx(
    model: onnx.ModelProto,
    out: Path,
    keep_classifier_float: bool,
    seven_bits: bool = True,
    kept: Sequence[str] = (),
) -> None:
    """Write an fp32 graph as int8 to the file `out`, with ranges of activations that are found at run time.

    Args:
        seven_bits: weights that are multiplied use 7 of their 8 bits. A CPU without VNNI adds two products of an
            activation (up to 255) and a weight in 16 bits. With weights up to 127 that sum saturates, silently, and
            labels change; with weights up to 64 it cannot (2 · 255 · 64 < 2¹⁵). False is for comparison.
        kept: names of nodes that stay as they are.
    """
    del model.graph.value_info[:]  # shapes that the exporter recorded and quantisation contradicts
    model.metadata_props.add(key=ACTIVATIONS, value=DYNAMIC)
    last = [node.name for node in model.graph.node if node.op_type in ("MatMul", "Gemm")][-1]
    head = [last, f"{last}_MatMul"]  # the quantiser turns a Gemm into a MatMul of the second name
    with quiet():
        quantize_dynamic(
            model,
            out,
            per_channel=True,
            reduce_range=seven_bits,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=[*kept, *(head if keep_classifier_float else [])],
            extra_options={"DefaultTensorType": onnx.TensorProto.FLOAT},  # of what fused operators give
        )


def save_torch_int8(checkpoint: Path, out: Path) -> None:
    """Write what would have to be shipped for a `TorchInt8Classifier`, so that its size can be measured.

    The file is a pickle, because PyTorch's quantised state has no other form; nothing in this project reads it.
    """
    classifier = TorchInt8Classifier(checkpoint, threads=torch.get_num_threads())
    with atomic_folder(out) as folder:
        torch.save(classifier.model.state_dict(), folder / "state.pt")
        carry(checkpoint, folder)


def _last_matmul(graph: openvino.Model) -> str:
    """The name of the output layer's product."""
    return [node.get_friendly_name() for node in graph.get_ordered_ops() if node.get_type_name() == "MatMul"][-1]
