"""Convert a checkpoint to another runtime's format, as a self-contained folder with its tokenizer."""

import json
import shutil
import tempfile
import warnings
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import torch
from transformers import PreTrainedModel

from fincompress.core.files import atomic_folder, read_json, write_text
from fincompress.networks.architectures import architecture_of
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.configuration import longest_text, read_config, read_tokenizer_config
from fincompress.networks.structure import head_size, passes, structure_of
from fincompress.runtimes.quiet import openvino, quiet

OPSET = 17
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


def to_onnx(checkpoint: Path, out: Path) -> None:
    """Write `out/model.onnx` (fp32, dynamic batch and length, `fused`) and whatever else inference needs."""
    model = load_model(str(checkpoint))
    with atomic_folder(out) as folder:
        onnx.save(optimised(model), folder / "model.onnx")
        carry(checkpoint, folder)


def optimised(model: PreTrainedModel) -> onnx.ModelProto:
    """A classifier as the ONNX graph that is shipped: `as_onnx`, `fused`, then `first_position_alone`."""
    return first_position_alone(fused(as_onnx(model), model))


def as_onnx(model: PreTrainedModel, inputs: Collection[str] | None = None) -> onnx.ModelProto:
    """A classifier as an ONNX graph of plain operators, from named inputs [batch, seq] to `logits`.

    Exported from TorchScript with attention spelled out (`eager`), because that is the form that `fused` knows: in what
    torch's newer exporter writes it finds no attention.

    Args:
        inputs: those that the graph takes, `input_ids` first; None has all of the architecture's. Without a mask, every
            position counts as real.
    """
    model.set_attn_implementation("eager")
    example = _example(model)
    if inputs is not None:
        example = {name: tensor for name, tensor in example.items() if name in inputs}
    with tempfile.TemporaryDirectory() as temporary, quiet():
        file = Path(temporary) / "model.onnx"
        torch.onnx.export(
            _Logits(model).eval(),
            tuple(example.values()),
            file,
            input_names=list(example),
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in example},
            opset_version=OPSET,
            dynamo=False,
        )
        graph = onnx.load(file)
    for node in graph.graph.node:  # the exporter's notes: stack traces with paths on this machine
        node.doc_string = ""
    return graph


def fused(graph: onnx.ModelProto, model: PreTrainedModel) -> onnx.ModelProto:
    """The same network with one operator `Attention` in every encoder layer, or `graph`, with a warning, if that fails.

    Attention alone is fused (docs/results/onnx_export.md has what that gains), because more is slower on CPUs: ONNX
    Runtime fuses GELU itself when it loads a file, and its SkipLayerNormalization takes longer than the addition and
    the normalisation that it stands for. Fused embeddings would also round the weights of their normalisation to int8.

    It fails if the optimiser does not recognise how the layers are written, which a release of transformers may change.
    The answers are the same either way, but take longer. Networks that attend in a way that ONNX Runtime has no
    operator for stay in plain operators.

    Args:
        graph: what `as_onnx` makes of `model`; changed in place where the fusion succeeds.
    """
    if not architecture_of(model.config.model_type).fused_attention:
        return graph
    from onnxruntime.transformers.fusion_options import FusionOptions  # here: it adds its folder to sys.path
    from onnxruntime.transformers.optimizer import optimize_model

    heads, plain = [len(kept) for kept in structure_of(model).kept_heads] * passes(model.config), onnx.ModelProto()
    plain.CopyFrom(graph)
    options = FusionOptions("encoder")
    options.use_raw_attention_mask()  # of any pattern; the default requires padding at the end
    options.enable_skip_layer_norm = options.enable_bias_skip_layer_norm = False
    options.enable_gelu = options.enable_bias_gelu = options.enable_embed_layer_norm = False
    width = max(heads) * head_size(model.config)
    with quiet():
        optimised = optimize_model(
            graph, num_heads=max(heads), hidden_size=width, optimization_options=options, opt_level=0
        )
        optimised.topological_sort()
    layers = [node for node in optimised.model.graph.node if node.op_type == "Attention"]
    if len(layers) != len(heads):
        seen = f"attention was recognised in {len(layers)} of {len(heads)} layers"
        warnings.warn(f"{seen}: exported in plain operators, which are slower", stacklevel=2)
        return plain
    for node, count in zip(layers, heads, strict=True):  # the optimiser gave all of them as many as the largest
        next(attribute for attribute in node.attribute if attribute.name == "num_heads").i = count
    optimised.model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))  # of the fused operator
    return optimised.model


def first_position_alone(graph: onnx.ModelProto) -> onnx.ModelProto:
    """The same answers with less work, in place: the last layer goes on with the first position once it has attended.

    The head reads that position alone, and after the last attention no position looks at another, so the rest of the
    layer need not be worked out for the others. That is up to two thirds of it: a tenth of a network of 6 layers, a
    third of one of 2. A graph that is not fused, or does anything else there, stays as it is.

    Args:
        graph: what `fused` returns.
    """
    nodes = graph.graph.node
    attention = [node for node in nodes if node.op_type == "Attention"]
    if not attention:
        return graph
    constant = {tensor.name for tensor in graph.graph.initializer}
    constant |= {name for node in nodes if node.op_type == "Constant" for name in node.output}
    residual, changed = attention[-1].input[0], set(attention[-1].output)
    rest = []  # what follows the attention, up to the head's choice of a position
    for node in nodes[list(nodes).index(attention[-1]) + 1 :]:
        if not changed.intersection(node.input):
            continue
        if node.op_type == "Gather" and _takes_the_first(node, graph):
            break
        if node.op_type not in _POSITIONWISE or set(node.input) - changed - constant - {residual}:
            return graph
        rest.append(node)
        changed.update(node.output)
    else:
        return graph
    for name, values in (("first_start", [0]), ("first_end", [1]), ("first_axis", [1])):
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.array(values, dtype=np.int64), name))
    for name in (attention[-1].output[0], residual):
        for node in rest:
            node.input[:] = [f"{name}_first" if given == name else given for given in node.input]
        cut = onnx.helper.make_node("Slice", [name, "first_start", "first_end", "first_axis"], [f"{name}_first"])
        nodes.insert(list(nodes).index(attention[-1]) + 1, cut)
    return graph


_POSITIONWISE = {"Add", "Cast", "Div", "Erf", "LayerNormalization", "MatMul", "Mul", "Pow", "Relu", "Sub", "Tanh"}
"""Operators of an encoder layer that treat every position alike."""


def _takes_the_first(node: onnx.NodeProto, graph: onnx.ModelProto) -> bool:
    """Whether a Gather chooses position 0 of [batch, position, width]."""
    axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 0)
    values = {tensor.name: tensor for tensor in graph.graph.initializer}
    values |= {other.output[0]: other.attribute[0].t for other in graph.graph.node if other.op_type == "Constant"}
    index = values.get(node.input[1])
    return axis == 1 and index is not None and onnx.numpy_helper.to_array(index).tolist() == 0


def to_openvino(checkpoint: Path, out: Path) -> None:
    """Write `out/openvino_model.xml` and `.bin` (fp32, dynamic batch and length) and whatever else inference needs."""
    with atomic_folder(out) as folder:
        save_openvino(as_openvino(load_model(str(checkpoint))), checkpoint, folder)


def as_openvino(model: PreTrainedModel) -> openvino.Model:
    """A classifier, fake-quantised or not, as an OpenVINO graph from named inputs [batch, seq] to `logits`.

    A fake-quantised weight is stored as int8 there, with its scales.
    """
    spell_out_local_attention(model)
    wrapper = _Logits(model).eval()  # a wrapper in training mode would put the model into training mode
    with quiet(), torch.no_grad():
        graph = openvino.convert_model(wrapper, example_input=_example(model))
    graph.outputs[0].tensor.set_names({"logits"})
    return graph


def spell_out_local_attention(model: PreTrainedModel) -> None:
    """Have a network with local attention compute it step by step, in place; others stay as they are.

    OpenVINO's operator for attention answers NaN where a position may attend to nothing, as padding that is far from
    the text, and NaN spreads. Step by step, such a position attends to all alike, and no word attends to it.
    """
    if architecture_of(model.config.model_type).local_attention:
        model.set_attn_implementation("eager")


def save_openvino(graph: openvino.Model, checkpoint: Path, folder: Path) -> None:
    """Write `graph` to `folder`, every constant in its own precision, with the configuration and the tokenizer.

    Operations are named by their position. Their original names are numbered on from whatever the process converted
    before, so the same model would be a different file each time.
    """
    graph.set_friendly_name("classifier")
    for place, operation in enumerate(graph.get_ordered_ops()):
        if operation.get_type_name() != "Parameter":
            operation.set_friendly_name(f"{operation.get_type_name()}_{place}")
    openvino.save_model(graph, folder / "openvino_model.xml", compress_to_fp16=False)
    carry(checkpoint, folder)


def to_checkpoint(checkpoint: Path, out: Path) -> None:
    """Write a checkpoint, whatever form its files have, as a standard one: safetensors in one file, tokenizer.json."""
    with atomic_folder(out) as folder:
        load_model(str(checkpoint)).save_pretrained(folder, max_shard_size="1TB")
        _carry_tokenizer(checkpoint, folder)


def carry(checkpoint: Path, folder: Path) -> None:
    """Copy what every runtime reads besides the weights, the tokenizer without the spaces that make it readable."""
    shutil.copy2(checkpoint / "config.json", folder / "config.json")
    _carry_tokenizer(checkpoint, folder)
    tokenizer = folder / "tokenizer.json"
    write_text(tokenizer, json.dumps(read_json(tokenizer), ensure_ascii=False, separators=(",", ":")))


def _carry_tokenizer(checkpoint: Path, folder: Path) -> None:
    """Copy a tokenizer, or save it anew where the checkpoint has it in an older form."""
    if all((checkpoint / name).is_file() for name in _TOKENIZER):
        for name in _TOKENIZER:
            shutil.copy2(checkpoint / name, folder / name)
        return
    longest = longest_text(read_config(checkpoint), read_tokenizer_config(checkpoint), str(checkpoint))
    load_tokenizer(str(checkpoint), longest).save_pretrained(folder)


def _example(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Inputs to trace the model with; the runtime feeds inputs of the same names."""
    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in architecture_of(model.config.model_type).inputs}
    example["input_ids"] += model.config.pad_token_id or 0  # any word piece except padding, which has no position
    example["input_ids"] %= model.config.vocab_size
    return example


class _Logits(torch.nn.Module):
    """A classifier that takes its inputs by name and returns bare logits."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids, attention_mask=None, token_type_ids=None):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask, "token_type_ids": token_type_ids}
        return self.classifier(**{name: tensor for name, tensor in inputs.items() if tensor is not None}).logits
