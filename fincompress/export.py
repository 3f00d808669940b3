"""Convert a checkpoint to another runtime's format, as a self-contained folder with its tokenizer."""

import logging
import shutil
import warnings
from pathlib import Path

import torch

from fincompress.checkpoints import load_model
from fincompress.files import atomic_folder

_CARRIED = ("config.json", "tokenizer.json", "tokenizer_config.json")


def to_onnx(checkpoint: Path, out: Path) -> None:
    """Write `out/model.onnx` (fp32, dynamic batch and length) and what inference needs beside it."""
    model = _Logits(load_model(str(checkpoint))).eval()
    names = ["input_ids", "attention_mask"]
    if getattr(model.classifier.config, "type_vocab_size", 0):
        names.append("token_type_ids")
    example = {name: torch.ones(2, 16, dtype=torch.int64) for name in names}
    axes = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
    with atomic_folder(out) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        torch.onnx.export(
            model,
            (),
            folder / "model.onnx",
            kwargs=example,
            input_names=names,
            output_names=["logits"],
            dynamic_shapes={name: axes for name in names},
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        for name in _CARRIED:
            shutil.copy2(checkpoint / name, folder / name)


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
