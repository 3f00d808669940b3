"""Several models on the same sentences, one after another in this process: their answers and how long they take.

This is for a quick look. `benchmark` measures for a report, in separate processes and interleaved rounds.
"""

from dataclasses import dataclass
from pathlib import Path

from fincompress.serving.classifier import Prediction, load_classifier


@dataclass(frozen=True)
class Answer:
    """A model's answers for the sentences."""

    model: str
    runtime: str
    predictions: list[Prediction]
    latency_ms: float  # median, one sentence at a time, including tokenisation


def compare(models: dict[str, Path], texts: list[str], threads: int | None = None) -> list[Answer]:
    """Ask every model in turn.

    Args:
        models: name -> folder.

    Raises:
        InputError: a folder holds no model.
    """
    answers = []
    for name, folder in models.items():
        classifier = load_classifier(folder, threads=threads)
        predictions = classifier(texts)  # doubles as the untimed first run
        answers.append(Answer(name, classifier.runtime, predictions, classifier.latency_ms(texts)))
    return answers
