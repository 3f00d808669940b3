"""What all runtimes share: the interface of a classifier, feeding it texts, and probabilities."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fincompress.core.errors import InputError
from fincompress.core.model_files import reading
from fincompress.networks.architectures import architecture_of
from fincompress.networks.configuration import (
    chosen_among,
    longest_text,
    padding_token,
    read_config,
    read_tokenizer_config,
)

if TYPE_CHECKING:
    from tokenizers import Tokenizer

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
        self.folder, config, beside = folder, read_config(folder), read_tokenizer_config(folder)
        self.labels = chosen_among(config, str(folder / "config.json"))
        self.max_length = longest_text(config, beside, str(folder))
        self.tokenizer = self._read_tokenizer()
        self._padding = self._padding_of(config, padding_token(beside))
        self.input_names = list(architecture_of(config["model_type"]).inputs)

    def _read_tokenizer(self) -> "Tokenizer":
        """The tokenizer in the folder.

        Raises:
            InputError: tokenizer.json cannot be read.
        """
        from tokenizers import Tokenizer

        file = self.folder / "tokenizer.json"
        with reading(file, by="tokenizers"):
            return Tokenizer.from_file(str(file))

    def _padding_of(self, config: dict[str, Any], name: str | None) -> dict[str, Any]:
        """Id and name of the piece that pads: what is not said is looked up in the vocabulary."""
        known = None if name is None else self.tokenizer.token_to_id(name)
        identifier = next((given for given in (config.get("pad_token_id"), known) if given is not None), 0)
        return {"pad_id": identifier, "pad_token": name or self.tokenizer.id_to_token(identifier) or "[PAD]"}

    def _check_outputs(self, count: object, file: Path) -> None:
        """An error where a converted model has another number of outputs than labels; unless its graph does not say."""
        if isinstance(count, int) and count != len(self.labels):
            raise InputError(
                f"{file}: {count} outputs, where config.json names {len(self.labels)} labels; fetch both again, or "
                "name every output in config.json's id2label"
            )

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
