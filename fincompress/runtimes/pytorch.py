"""Eager PyTorch, in fp32 and in its own dynamic int8."""

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fincompress.runtimes.base import TransformerClassifier

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TorchClassifier(TransformerClassifier):
    """A transformers checkpoint in fp32 PyTorch, eager, on the CPU."""

    def __init__(self, folder: Path, threads: int):
        import torch

        from fincompress.networks.checkpoints import load_model

        super().__init__(folder)
        torch.set_num_threads(threads)
        self._torch = torch
        self.model = load_model(str(folder))

    def _read_tokenizer(self) -> "Tokenizer":
        """That of tokenizer.json, or what transformers makes of an older kind of vocabulary."""
        from fincompress.networks.checkpoints import load_tokenizer

        if (self.folder / "tokenizer.json").is_file():
            return super()._read_tokenizer()
        return load_tokenizer(str(self.folder)).backend_tokenizer

    def _forward(self, inputs: dict[str, np.ndarray]) -> np.ndarray:
        with self._torch.inference_mode():
            tensors = {name: self._torch.from_numpy(array) for name, array in inputs.items()}
            return self.model(**tensors).logits.numpy()


class TorchInt8Classifier(TorchClassifier):
    """A transformers checkpoint whose linear layers PyTorch quantises when loading, and activations at run time.

    For comparison only: PyTorch has deprecated this path (`torch.ao.quantization.quantize_dynamic`), and its
    embeddings stay in fp32.
    """

    dynamic = True

    def __init__(self, folder: Path, threads: int):
        super().__init__(folder, threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the deprecation
            self.model = self._torch.ao.quantization.quantize_dynamic(
                self.model, {self._torch.nn.Linear}, dtype=self._torch.qint8
            )
