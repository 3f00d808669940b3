"""Cleaning and splitting: no text twice, none with two labels, none on two sides."""

import numpy as np
import pandas as pd

from fincompress.errors import InputError
from fincompress.params import PrepareParams

SPLITS = ("train", "val", "test")


def normalise(text: str) -> str:
    """The form in which two texts count as the same: casefolded, runs of whitespace as one space."""
    return " ".join(text.split()).casefold()


def clean(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Fold whitespace, drop every copy of a text that carries two labels, keep one copy of the others.

    Returns:
        The rows that remain, in their order, and how many rows went: `conflicting` (all copies of texts
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
    """Split rows into train, val and test, with each label in its share on every side.

    `params.max_rows` first takes a stratified sample. Rows of a source in `params.exclude_from_test` go to train and
    val alone. The result depends on nothing but the rows and the seed.

    Raises:
        InputError: a label has too few rows for each side to get one, or there is no source of that name.
    """
    unknown = sorted(set(params.exclude_from_test) - set(frame["source"]))
    if unknown:
        raise InputError(
            f"params.yaml: prepare.exclude_from_test: no rows of source {', '.join(unknown)}; "
            f"there are {', '.join(sorted(set(frame['source'])))}"
        )
    tested = ~frame["source"].isin(params.exclude_from_test).to_numpy()
    generator = np.random.default_rng(seed)
    share = min(1.0, params.max_rows / len(frame)) if params.max_rows and len(frame) else 1.0
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    for label in labels:
        rows = generator.permutation(np.flatnonzero(frame["label"] == label))
        rows = rows[: round(len(rows) * share)]
        test = rows[tested[rows]][: round(tested[rows].sum() * params.split.test)]
        others = rows[~np.isin(rows, test)]
        if params.exclude_from_test:  # the first of them are of excluded sources more often than the last
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
