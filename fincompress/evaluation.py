"""A model's logits over a data set, and scores of predictions: macro F1, accuracy, by class, source, phenomenon."""

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from sklearn.metrics import accuracy_score, f1_score
from tqdm import tqdm
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from fincompress.dataset import length_batches, tokenise


@torch.inference_mode()
def model_logits(
    dataset: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, description: str
) -> np.ndarray:
    """Run `model` once over `dataset`; returns float32 [rows, labels] in the order of the rows."""
    logits = np.empty((len(dataset), model.config.num_labels), dtype=np.float32)
    for rows, batch in model_batches(dataset, model, tokenizer, description):
        logits[rows] = model(**batch).logits.float().cpu().numpy()
    return logits


def model_batches(
    dataset: Dataset,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    description: str,
    batch_size: int = 64,
) -> Iterator[tuple[np.ndarray, BatchEncoding]]:
    """`length_batches` with a progress bar, on the device that the model is moved to."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().to(device)
    batches = length_batches(dataset, tokenizer, batch_size)
    for rows, batch in tqdm(batches, desc=description, total=math.ceil(len(dataset) / batch_size), disable=None):
        yield rows, batch.to(device)


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Unweighted mean F1 over the classes that occur in `labels`, both [rows] of ids or names.

    On a whole split that is every class; on a subset (one phenomenon, say) classes without a row are left out.
    """
    return float(f1_score(labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


def scores(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Macro F1 and accuracy of predicted ids or names, both [rows]."""
    return {"macro_f1": macro_f1(labels, predictions), "accuracy": float(accuracy_score(labels, predictions))}


def published_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, splits: dict[str, pd.DataFrame], labels: list[str]
) -> dict:
    """Scores of a classifier as it is, on the splits `val` and `test`: macro F1, accuracy, and macro F1 by source.

    Args:
        labels: names of the model's outputs, in order.
    """
    predicted = {
        name: np.array(labels)[
            model_logits(tokenise(rows, labels, tokenizer), model, tokenizer, f"as published, {name}").argmax(axis=1)
        ]
        for name, rows in splits.items()
    }
    table = breakdown(splits["test"], predicted["test"]).query("group == 'source'")
    return {
        **{key: round(value, 6) for key, value in scores(splits["test"]["label"], predicted["test"]).items()},
        "val_macro_f1": round(macro_f1(splits["val"]["label"].to_numpy(), predicted["val"]), 6),
        "macro_f1_by_source": {value: round(f1, 6) for value, f1 in zip(table["value"], table["f1"], strict=True)},
    }


def breakdown(frame: pd.DataFrame, predictions: np.ndarray) -> pd.DataFrame:
    """Scores by class, source and phenomenon.

    Args:
        frame: rows with `label`, `source` and `phenomenon`.
        predictions: [rows] of label names.

    Returns:
        Columns `group` (class, source, phenomenon), `value`, `rows`, `f1` (of the class; macro for the other
        groups) and `accuracy`. A group whose values are all empty is left out.
    """
    labels = frame["label"].to_numpy()
    table = []
    for name in np.unique(labels):
        mine = labels == name
        f1 = f1_score(mine, predictions == name, zero_division=0)
        table.append(("class", name, int(mine.sum()), float(f1), float((predictions[mine] == name).mean())))
    for group in ("source", "phenomenon"):
        for value, rows in frame.groupby(group).indices.items():
            if value:
                part = scores(labels[rows], predictions[rows])
                table.append((group, value, len(rows), part["macro_f1"], part["accuracy"]))
    return pd.DataFrame(table, columns=["group", "value", "rows", "f1", "accuracy"])
