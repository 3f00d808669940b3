"""A teacher's answers to many texts, worked out once and kept."""

from pathlib import Path

import numpy as np
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.core.files import atomic_file
from fincompress.networks.logits import model_logits

CHUNK = 2048  # texts that an interruption can lose


def answers(
    dataset: Dataset, teacher: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, scratch: Path
) -> np.ndarray:
    """The logits of `teacher` for `dataset`, float32 [rows, labels]; parts that an interrupted run left are kept.

    Args:
        dataset: tokenised for the teacher.
        scratch: where parts are kept.
    """
    parts = []
    for start in range(0, len(dataset), CHUNK):
        file = scratch / f"answers-{start}.npy"
        if not file.is_file():  # appears whole or not at all
            rows = dataset.select(range(start, min(start + CHUNK, len(dataset))))
            with atomic_file(file) as temporary:
                np.save(temporary, model_logits(rows, teacher, tokenizer, f"teacher's answers from text {start} on"))
        parts.append(np.load(file))
    return np.concatenate(parts)
