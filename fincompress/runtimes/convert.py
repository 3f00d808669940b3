"""Convert a checkpoint to another runtime's format, as a self-contained folder with its tokenizer."""

import shutil
from pathlib import Path

import onnx
import torch
from transformers import PreTrainedModel

from fincompress.core.files import atomic_folder
from fincompress.networks.architectures import architecture_of
from fincompress.networks.checkpoints import load_model
from fincompress.runtimes.quiet import openvino, quiet

_CARRIED = ("config.json", "tokenizer.json", "tokenizer_config.json")


def to_onnx(checkpoint: Path, out: Path) -> None:
    """Write `out/model.onnx` (fp32, dynamic batch and length) and whatever else inference needs."""
    model = load_model(str(checkpoint))
    example = _example(model)
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with atomic_folder(out) as folder, quiet():
        torch.onnx.export(
            _Logits(model).eval(),
            (),
            folder / "model.onnx",
            kwargs=example,
            input_names=list(example),
            output_names=["logits"],
            dynamic_shapes={name: axes for name in example},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        _drop_metadata(folder / "model.onnx")
        carry(checkpoint, folder)


def to_openvino(checkpoint: Path, out: Path) -> None:
    """Write `out/openvino_model.xml` and `.bin` (fp32, dynamic batch and length) and whatever else inference needs."""
    with atomic_folder(out) as folder:
        save_openvino(as_openvino(load_model(str(checkpoint))), checkpoint, folder)


def as_openvino(model: PreTrainedModel) -> openvino.Model:
    """A classifier, fake-quantised or not, as an OpenVINO graph from named inputs [batch, seq] to `logits`.

    A fake-quantised weight is stored as int8 there, with its scales.
    """
    wrapper = _Logits(model).eval()  # a wrapper in training mode would put the model into training mode
    with quiet(), torch.no_grad():
        graph = openvino.convert_model(wrapper, example_input=_example(model))
    graph.outputs[0].tensor.set_names({"logits"})
    return graph


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


def carry(checkpoint: Path, folder: Path) -> None:
    """Copy what every runtime reads besides the weights."""
    for name in _CARRIED:
        shutil.copy2(checkpoint / name, folder / name)


def _drop_metadata(path: Path) -> None:
    """Remove the exporter's notes from an ONNX file: stack traces with paths on this machine."""
    model = onnx.load(path)
    for node in model.graph.node:
        del node.metadata_props[:]
    onnx.save(model, path)


def _example(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """Inputs to trace the model with; the runtime feeds inputs of the same names."""
    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in architecture_of(model.config.model_type).inputs}
    example["input_ids"] += model.config.pad_token_id or 0  # any word piece except padding, which has no position
    return example


class _Logits(torch.nn.Module):
    """A classifier that takes its inputs by name and returns bare logits."""

    def __init__(self, classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, input_ids, attention_mask, token_type_ids=None):
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        return self.classifier(**inputs).logits
