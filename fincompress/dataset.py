"""The prepared splits as frames, and as tokenised data sets for training."""

from pathlib import Path

import pandas as pd
from datasets import Dataset
from transformers import PreTrainedTokenizerBase

from fincompress.errors import InputError
from fincompress.files import read_json


def read_labels(data: Path) -> list[str]:
    """The label names in id order, as `prepare` wrote them."""
    return read_json(_existing(data / "labels.json"))["labels"]


def read_split(data: Path, name: str) -> pd.DataFrame:
    """One split (`train`, `val` or `test`); all columns are strings, empty where a row has none."""
    return pd.read_csv(_existing(data / f"{name}.csv"), dtype=str, keep_default_na=False)


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: not found; `dvc repro prepare` writes it")
    return path


def tokenise(frame: pd.DataFrame, labels: list[str], tokenizer: PreTrainedTokenizerBase) -> Dataset:
    """Tokenise once, unpadded, cut at the tokenizer's `model_max_length`.

    Returns:
        A data set with the tokenizer's inputs, `labels` (ids) and `length` (word pieces, for length-grouped batches).
    """
    encoded = tokenizer(frame["text"].tolist(), truncation=True, padding=False)
    columns = {name: encoded[name] for name in tokenizer.model_input_names if name in encoded}
    label_id = {label: index for index, label in enumerate(labels)}
    columns["labels"] = [label_id[label] for label in frame["label"]]
    columns["length"] = [len(ids) for ids in encoded["input_ids"]]
    return Dataset.from_dict(columns)
