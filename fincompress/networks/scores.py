"""Scores of predictions: macro F1 and accuracy, in all and by class, source and phenomenon."""

import numpy as np
import pandas as pd

MOST = 20
"""Groups of rows that are told apart; there may be hundreds of sources."""


def macro_f1(labels: np.ndarray, predictions: np.ndarray) -> float:
    """Unweighted mean F1 over the classes that occur in `labels`, both [rows] of ids or names.

    On a whole split that is every class; on a subset (one phenomenon, say), classes without rows are left out.
    """
    from sklearn.metrics import f1_score

    return float(f1_score(labels, predictions, labels=np.unique(labels), average="macro", zero_division=0))


def scores(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Macro F1 and accuracy of predicted ids or names, both [rows]."""
    from sklearn.metrics import accuracy_score

    return {"macro_f1": macro_f1(labels, predictions), "accuracy": float(accuracy_score(labels, predictions))}


def breakdown(frame: pd.DataFrame, predictions: np.ndarray) -> pd.DataFrame:
    """Scores by class, source and phenomenon.

    Args:
        frame: rows with `label`, `source` and `phenomenon`.
        predictions: [rows] of label names.

    Returns:
        Columns `group` (class, source, phenomenon), `value`, `rows`, `f1` (of the class; macro for the other
        groups) and `accuracy`. A group whose values are all empty is left out. Of sources and phenomena, all but the
        `MOST` with the most rows are one group (see `largest`).
    """
    from sklearn.metrics import f1_score

    labels = frame["label"].to_numpy()
    table = []
    for name in np.unique(labels):
        mine = labels == name
        f1 = f1_score(mine, predictions == name, zero_division=0)
        table.append(("class", name, int(mine.sum()), float(f1), float((predictions[mine] == name).mean())))
    for group in ("source", "phenomenon"):
        for value, rows in frame.groupby(largest(frame[group])).indices.items():
            if value:
                part = scores(labels[rows], predictions[rows])
                table.append((group, value, len(rows), part["macro_f1"], part["accuracy"]))
    return pd.DataFrame(table, columns=["group", "value", "rows", "f1", "accuracy"])


def largest(values: pd.Series, most: int = MOST) -> pd.Series:
    """Values of which all but the `most` frequent have one name instead, such as `others (180)`; empty ones stay.

    Of equally frequent ones, those that come first in the alphabet stay.
    """
    counts = values[values != ""].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if len(counts) <= most:
        return values
    return values.where(values.isin([*counts.index[:most], ""]), f"others ({len(counts) - most})")
