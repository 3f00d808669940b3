"""Several models on the same sentences, one after the other in this process: what each says, and how long it takes.

For a look, not for a report: `benchmark` measures in processes of their own and in interleaved rounds.
"""

from dataclasses import dataclass
from pathlib import Path

from fincompress.serving.classifier import Prediction, load_classifier


@dataclass(frozen=True)
class Answer:
    """What a model says of the sentences."""

    model: str
    runtime: str
    predictions: list[Prediction]
    latency_ms: float  # median of one sentence at a time, tokenisation included


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
        predictions = classifier(texts)  # also the run that is not timed
        answers.append(Answer(name, classifier.runtime, predictions, classifier.latency_ms(texts)))
    return answers
