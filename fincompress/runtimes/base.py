"""What all runtimes share: the interface of a classifier, feeding it texts, and probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

import numpy as np

from fincompress.core.files import read_json
from fincompress.networks.architectures import architecture_of

ACTIVATIONS, DYNAMIC = "activations", "dynamic int8"
"""What the metadata of an ONNX file says if ranges of activations are found at run time, over everything fed."""


class Classifier(Protocol):
    """A text classifier loaded into a runtime. Its answer for a text does not depend on the rest of the batch."""

    labels: list[str]

    def encode(self, texts: list[str], pad_to: int | None = None) -> dict[str, np.ndarray]:
        """Model inputs for `texts`, [batch, seq], padded to the longest text or to `pad_to` word pieces."""
        ...

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Scores before the softmax, float32 [batch, labels]."""
        ...


def predict_logits(classifier: Classifier, texts: list[str], batch_size: int = 32) -> np.ndarray:
    """Logits of any number of texts, [texts, labels], in the same order; batched by length to save padding."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    logits = np.empty((len(texts), len(classifier.labels)), dtype=np.float32)
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        logits[rows] = classifier.logits(classifier.encode([texts[row] for row in rows]))
    return logits


def probabilities(logits: np.ndarray) -> np.ndarray:
    """Softmax of logits [rows, labels], as float64 of the same shape."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    exponents = np.exp(shifted)
    return exponents / exponents.sum(axis=1, keepdims=True)


class TransformerClassifier(ABC):
    """What the runtimes for transformers share: labels, the tokenizer, and how a dynamic model is fed.

    The tokenizer is used without transformers, so that serving a converted model imports neither it nor torch.
    """

    dynamic = False
    """Whether ranges of activations are found at run time, over everything that is fed at once."""

    def __init__(self, folder: Path):
        from tokenizers import Tokenizer

        config = read_json(folder / "config.json")
        id2label = config["id2label"]
        self.labels = [id2label[str(index)] for index in range(len(id2label))]
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        tokenizer_config = read_json(folder / "tokenizer_config.json")
        self.max_length = tokenizer_config["model_max_length"]
        self._padding = {"pad_id": config.get("pad_token_id") or 0, "pad_token": tokenizer_config["pad_token"]}
        self.input_names = list(architecture_of(config["model_type"]).inputs)

    def encode(self, texts: list[str], pad_to: int | None = None) -> dict[str, np.ndarray]:
        self.tokenizer.enable_truncation(min(self.max_length, pad_to or self.max_length))
        self.tokenizer.enable_padding(length=pad_to, **self._padding)
        encodings = self.tokenizer.encode_batch(texts)
        columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        return {
            name: np.array([getattr(encoding, columns[name]) for encoding in encodings], dtype=np.int64)
            for name in self.input_names
        }

    def logits(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Scores before the softmax, float32 [batch, labels].

        A dynamic model is fed the texts of a batch one by one, without padding: in a batch, the range of activations
        would be that of all its texts, and one text in forty would get a different label.
        """
        if not self.dynamic or len(inputs["input_ids"]) == 1:
            return self._forward(inputs)
        lengths = inputs["attention_mask"].sum(axis=1)
        texts = ({name: array[row : row + 1, :n] for name, array in inputs.items()} for row, n in enumerate(lengths))
        return np.concatenate(list(self._forward_each(texts)))

    @abstractmethod
    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        """Logits of the inputs as they are."""

    def _forward_each(self, texts: Iterable[dict[str, np.ndarray]]) -> Iterable[np.ndarray]:
        """Logits of several inputs, in the same order."""
        return map(self._forward, texts)
