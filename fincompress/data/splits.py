"""Cleaning and splitting: no text occurs twice, has two labels, or is in two splits."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fincompress.core.errors import InputError
from fincompress.core.sections import AgNewsParams, PrepareParams
from fincompress.data.prepared import SPLITS, normalise


def clean(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Collapse whitespace, drop every copy of a text that has two labels, keep one copy of every other text.

    Returns:
        The remaining rows in their original order, and how many were dropped: `conflicting` (all copies of texts
        with more than one label) and `duplicates` (further copies of the same text and label).
    """
    key = frame["text"].map(normalise)
    conflicting = frame["label"].groupby(key).transform("nunique") > 1
    consistent = frame[~conflicting]
    kept = consistent[~key[~conflicting].duplicated()]
    kept = kept.assign(text=kept["text"].map(lambda text: " ".join(text.split())))
    dropped = {"conflicting": int(conflicting.sum()), "duplicates": len(consistent) - len(kept)}
    return kept.reset_index(drop=True), dropped


def split(frame: pd.DataFrame, labels: list[str], params: PrepareParams, seed: int) -> dict[str, pd.DataFrame]:
    """Split rows into train, val and test, with the same label shares in each.

    `params.max_rows` first takes a stratified sample. Rows of a source in `params.exclude_from_test` only go to train
    and val. The result depends on nothing but the rows, the params and the seed.

    Raises:
        InputError: a label has too few rows for every split to get one, or there is no source of that name.
    """
    unknown = sorted(set(params.exclude_from_test) - set(frame["source"]))
    if unknown:
        raise InputError(
            f"params.yaml: prepare.exclude_from_test: no rows of source {', '.join(unknown)}; "
            f"there are {', '.join(sorted(set(frame['source'])))}"
        )
    tested = ~frame["source"].isin(params.exclude_from_test).to_numpy()
    generator = np.random.default_rng(seed)
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    for label, rows in _sample(frame, labels, params.max_rows, generator):
        test = rows[tested[rows]][: round(tested[rows].sum() * params.split.test)]
        others = rows[~np.isin(rows, test)]
        if params.exclude_from_test:  # rows of excluded sources come first more often than last
            others = generator.permutation(others)
        val = round(len(rows) * params.split.val)
        if min(len(test), val, len(others) - val) < 1:
            raise InputError(
                f"label `{label}` has {len(rows)} rows after cleaning, too few for one each in train, val and test; "
                "add rows, merge labels, or raise prepare.split or prepare.max_rows"
            )
        parts["test"].extend(test)
        parts["val"].extend(others[:val])
        parts["train"].extend(others[val:])
    return _frames(frame, parts)


def split_training(frame: pd.DataFrame, labels: list[str], params: AgNewsParams, seed: int) -> dict[str, pd.DataFrame]:
    """Split the rows of a data set that comes with its own test split into train and val, by label.

    `params.max_train_rows` first takes a stratified sample, validation rows included.

    Raises:
        InputError: a label has too few rows for both splits to get one.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[int]] = {"train": [], "val": []}
    for label, rows in _sample(frame, labels, params.max_train_rows, generator):
        val = round(len(rows) * params.val)
        if min(val, len(rows) - val) < 1:
            raise InputError(
                f"label `{label}` has {len(rows)} training rows, too few for one each in train and val; "
                "add rows, or raise prepare.val or prepare.max_train_rows"
            )
        parts["val"].extend(rows[:val])
        parts["train"].extend(rows[val:])
    return _frames(frame, parts)


def without(frame: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The rows of `frame` whose text does not occur in `test`."""
    held_out = set(test["text"].map(normalise))
    return frame[~frame["text"].map(normalise).isin(held_out)].reset_index(drop=True)


def _sample(
    frame: pd.DataFrame, labels: list[str], most: int | None, generator: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """For each label, its rows' positions in random order; the same share of each label, at most `most` rows in all."""
    share = min(1.0, most / len(frame)) if most and len(frame) else 1.0
    for label in labels:
        rows = generator.permutation(np.flatnonzero(frame["label"] == label))
        yield label, rows[: round(len(rows) * share)]


def _frames(frame: pd.DataFrame, parts: dict[str, list[int]]) -> dict[str, pd.DataFrame]:
    """The rows at these positions, in the order of `frame`."""
    return {name: frame.iloc[sorted(rows)].reset_index(drop=True) for name, rows in parts.items()}


def summarise(splits: dict[str, pd.DataFrame], dropped: dict[str, int]) -> dict:
    """Rows, label shares, sources, dropped rows and text lengths (in words) of a prepared data set."""
    texts = pd.concat(splits.values())["text"]
    words = texts.str.split().str.len()
    return {
        "rows": {"all": len(texts), **{name: len(rows) for name, rows in splits.items()}},
        "dropped": dropped,
        "label_share": {
            name: rows["label"].value_counts(normalize=True).sort_index().round(4).to_dict()
            for name, rows in splits.items()
        },
        "sources": {name: rows["source"].value_counts().sort_index().to_dict() for name, rows in splits.items()},
        "words": {f"p{q}": int(np.percentile(words, q, method="higher")) for q in (5, 50, 95, 99, 100)},
    }
