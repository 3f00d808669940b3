"""Texts as tokenised data sets, and in batches of similar length."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from datasets import Dataset, concatenate_datasets
from transformers import BatchEncoding, PreTrainedTokenizerBase

CLASS_WEIGHTS = "class_weights"
"""In a training batch, the weight of each class, [labels], where classes are weighed."""
NO_LABEL = -100
"""The label id of a row without a label, which PyTorch's losses ignore."""


def tokenise(frame: pd.DataFrame, labels: list[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Tokenise once, unpadded, cut at the tokenizer's `model_max_length`.

    Returns:
        A data set with the tokenizer's inputs, `labels` (ids; `NO_LABEL` where `frame` has no such column) and
        `length` (word pieces, for length-grouped batches).
    """
    encoded = tokenizer(frame["text"].tolist(), truncation=True, padding=False)
    columns = {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}
    label_id = {label: index for index, label in enumerate(labels)}
    columns["labels"] = [label_id[label] for label in frame["label"]] if "label" in frame else [NO_LABEL] * len(frame)
    columns["length"] = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict(columns)


def add_unlabelled(dataset: Dataset, texts: pd.DataFrame, tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """`dataset` followed by `texts` as rows without labels."""
    return dataset if texts.empty else concatenate_datasets([dataset, tokenise(texts, [], tokenizer)])


def length_batches(
    dataset: Dataset, tokenizer: PreTrainedTokenizerBase, batch_size: int = 64
) -> Iterator[tuple[np.ndarray, BatchEncoding]]:
    """Batches of similar length, so that little padding is wasted; not in the order of the rows.

    Yields:
        The rows of `dataset` in a batch, and the model's inputs for them as tensors [batch, seq].
    """
    inputs = dataset.select_columns([name for name in tokenizer.model_input_names if name in dataset.column_names])
    by_length = np.argsort(dataset["length"], kind="stable")
    for start in range(0, len(by_length), batch_size):
        rows = by_length[start : start + batch_size]
        yield rows, tokenizer.pad(inputs[rows], return_tensors="pt")
