"""A classifier without a model, for tests of what scoring does with files."""

import zlib
from pathlib import Path

import numpy as np


class StubClassifier:
    """Answers by a checksum of the text, and remembers what it was asked."""

    labels = ("negative", "positive")
    runtime = "stub"

    def __init__(self, folder: Path):
        """Take `folder` for that of the model; it is made if it is not there."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.calls: list[list[str]] = []
        self.stop_at: int | None = None

    def probabilities(self, texts: list[str], batch_size: int = 32) -> np.ndarray:
        if len(self.calls) == self.stop_at:
            raise KeyboardInterrupt
        self.calls.append(list(texts))
        assert all(isinstance(text, str) and text.strip() for text in texts)
        return np.array([expected(text) for text in texts])


def expected(text: str) -> list[float]:
    """The stub's probabilities of a text."""
    share = zlib.crc32(text.encode()) / 2**32
    return [1 - share, share]


def label(text: str) -> str:
    """The stub's label of a text."""
    return StubClassifier.labels[int(np.argmax(expected(text)))]
