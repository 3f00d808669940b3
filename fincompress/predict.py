"""Labels and probabilities of texts by a model folder, whatever its format."""

import os
from dataclasses import dataclass
from pathlib import Path

from fincompress.runtime import open_classifier, predict_logits, probabilities, runtime_of


@dataclass(frozen=True)
class Prediction:
    """What a model says of a text."""

    text: str
    label: str
    probabilities: dict[str, float]


def predict(folder: Path, texts: list[str]) -> list[Prediction]:
    """Classify `texts`, in their order, on all CPU cores.

    Raises:
        InputError: the folder holds no model, or lacks a file.
    """
    classifier = open_classifier(folder, runtime_of(folder), threads=os.cpu_count() or 1)
    return [
        Prediction(text, classifier.labels[int(row.argmax())], dict(zip(classifier.labels, row.tolist(), strict=True)))
        for text, row in zip(texts, probabilities(predict_logits(classifier, texts)), strict=True)
    ]
