"""A model folder of any format as a callable that returns the labels and probabilities of texts.

torch, ONNX Runtime and OpenVINO are only imported for models that need them, so an int8 model is served without torch.
"""

import copy
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, cast, overload

import numpy as np

from fincompress.core.errors import InputError
from fincompress.core.threads import usable_cores
from fincompress.runtimes.base import predict_logits, probabilities
from fincompress.runtimes.registry import open_classifier, runtime_of

REPEATS = 5
"""Timed calls per text, where a latency is shown with an answer."""


@dataclass(frozen=True)
class Prediction:
    """A model's answer for a text."""

    text: str
    label: str
    probabilities: dict[str, float]

    @property
    def confidence(self) -> float:
        """The probability of the predicted label."""
        return self.probabilities[self.label]


class TextClassifier:
    """A loaded model. Several threads may call it; it handles one call at a time, with all its own threads."""

    def __init__(self, folder: Path, runtime: str, threads: int):
        self.folder, self.runtime, self.threads = folder, runtime, threads
        self._classifier = open_classifier(folder, runtime, threads)
        self._lock = threading.Lock()  # the tokenizer's padding and OpenVINO's request are state of the object

    @property
    def labels(self) -> list[str]:
        """Label names in id order."""
        return self._classifier.labels

    @property
    def feeds_one_by_one(self) -> bool:
        """Whether texts are fed to the model alone, so that an answer is the same bit for bit whatever is beside it."""
        return getattr(self._classifier, "dynamic", False)

    def twin(self) -> "TextClassifier":
        """Another classifier on the same weights, so that two threads are answered at once.

        Only for a model that is fed one by one on one thread: then nothing but the tokenizer is state of the object.
        """
        if not (self.feeds_one_by_one and self.threads == 1):
            raise ValueError("calls of this model cannot run side by side")
        other, inner = copy.copy(self), cast(Any, copy.copy(self._classifier))
        inner.tokenizer = copy.deepcopy(inner.tokenizer)
        other._classifier, other._lock = inner, threading.Lock()
        return other

    def probabilities(self, texts: Sequence[str], batch_size: int = 32) -> np.ndarray:
        """Probabilities of texts, float64 [texts, labels] in the same order; batched by length to save padding."""
        with self._lock:
            return probabilities(predict_logits(self._classifier, list(texts), batch_size))

    def latency_ms(self, texts: Sequence[str]) -> float:
        """Median milliseconds of a call with one of `texts`, including tokenisation; `REPEATS` calls each.

        The first call of a model takes longer.
        """
        return median(self._milliseconds(text) for text in texts for _ in range(REPEATS))

    def _milliseconds(self, text: str) -> float:
        start = time.perf_counter()
        self(text)
        return (time.perf_counter() - start) * 1e3

    def is_cut(self, text: str) -> bool:
        """Whether a text is longer than the model accepts, so that its end is not read."""
        tokenizer = getattr(self._classifier, "tokenizer", None)
        with self._lock:
            return tokenizer is not None and bool(tokenizer.encode(text).overflowing)

    @overload
    def __call__(self, texts: str, batch_size: int = 32) -> Prediction: ...  # type: ignore[overload-overlap]  # str is one
    @overload
    def __call__(self, texts: Sequence[str], batch_size: int = 32) -> list[Prediction]: ...
    def __call__(self, texts, batch_size=32):
        """Classify one text, or several in order.

        Raises:
            TypeError: the argument is neither a text nor a sequence of texts.
        """
        if isinstance(texts, str):
            return self([texts])[0]
        texts = list(texts)
        for text in texts:
            if not isinstance(text, str):
                raise TypeError(f"expected texts, found {type(text).__name__}")
        if not texts:
            return []
        rows = self.probabilities(texts, batch_size)
        return [
            Prediction(text, self.labels[int(row.argmax())], dict(zip(self.labels, row.tolist(), strict=True)))
            for text, row in zip(texts, rows, strict=True)
        ]


def load_classifier(folder: str | Path, runtime: str | None = None, threads: int | None = None) -> TextClassifier:
    """Load a model folder: a checkpoint, a converted model, or anything else a stage or `fincompress export` wrote.

    Args:
        runtime: torch, torch_int8, onnxruntime, openvino or bag_of_words; None takes the one that the folder is for.
        threads: CPU threads; None uses every core that this process may use.

    Raises:
        InputError: the folder holds no model, or lacks a file, or is for another runtime.
    """
    folder = Path(folder)
    made_for = runtime_of(folder)
    runtime = runtime or made_for
    if runtime.removesuffix("_int8") != made_for:
        raise InputError(
            f"{folder}: a model for {made_for}, which {runtime} cannot run; `fincompress export` converts it"
        )
    return TextClassifier(folder, runtime, threads or usable_cores())
