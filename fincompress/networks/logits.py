"""A network's logits over a data set, and the scores of a classifier as published."""

import math
from collections.abc import Iterator
from typing import cast

import numpy as np
import pandas as pd
import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import BatchEncoding, PreTrainedModel, PreTrainedTokenizerBase

from fincompress.networks.batches import length_batches, tokenise
from fincompress.networks.scores import breakdown, macro_f1, scores


@torch.inference_mode()
def model_logits(
    dataset: Dataset, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, description: str
) -> np.ndarray:
    """Run `model` once over `dataset`; returns float32 [rows, labels] in the order of the rows."""
    logits = np.empty((len(dataset), cast(int, model.config.num_labels)), dtype=np.float32)
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
    """`length_batches` with a progress bar, on the device that the model has been moved to."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.eval().to(device)
    batches = length_batches(dataset, tokenizer, batch_size)
    for rows, batch in tqdm(batches, desc=description, total=math.ceil(len(dataset) / batch_size), disable=None):
        yield rows, batch.to(device)


def published_scores(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, splits: dict[str, pd.DataFrame], labels: list[str]
) -> dict:
    """Scores of an unchanged classifier on the splits `val` and `test`: macro F1, accuracy, and macro F1 by source.

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
