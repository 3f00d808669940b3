"""Labels and probabilities of texts by a model folder, whatever its format."""

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fincompress.errors import InputError
from fincompress.runtime import open_classifier, predict_logits

_RUNTIMES = {
    "model.onnx": "onnxruntime",
    "openvino_model.xml": "openvino",
    "bag_of_words.json": "bag_of_words",
    "model.safetensors": "torch",
}
"""A file that a model folder has -> the runtime it is for; the first that is there counts."""


@dataclass(frozen=True)
class Prediction:
    """What a model says of a text."""

    text: str
    label: str
    probabilities: dict[str, float]


def runtime_of(folder: Path) -> str:
    """The runtime that a model folder is for.

    Raises:
        InputError: it is no model folder.
    """
    for name, runtime in _RUNTIMES.items():
        if (folder / name).is_file():
            return runtime
    raise InputError(f"{folder}: no model there; `dvc repro` makes it, or `dvc pull` fetches it")


def predict(folder: Path, texts: list[str]) -> list[Prediction]:
    """Classify `texts`, in their order, on all CPU cores.

    Raises:
        InputError: the folder holds no model, or lacks a file.
    """
    classifier = open_classifier(folder, runtime_of(folder), threads=os.cpu_count() or 1)
    logits = predict_logits(classifier, texts).astype(np.float64)
    exponents = np.exp(logits - logits.max(axis=1, keepdims=True))
    probabilities = exponents / exponents.sum(axis=1, keepdims=True)
    return [
        Prediction(text, classifier.labels[int(row.argmax())], dict(zip(classifier.labels, row.tolist(), strict=True)))
        for text, row in zip(texts, probabilities, strict=True)
    ]
