"""How sure a difference in macro F1 is: bootstrap intervals, McNemar's test, and a verdict in a word."""

import numpy as np

CONFIDENCE = 0.95
BATCH_BYTES = 50_000_000  # of resampled row indices held at once


def resampled_macro_f1(labels: np.ndarray, predictions: np.ndarray, axis: int = -1) -> np.ndarray:
    """Macro F1 along `axis` of ids of the same shape: that of `evaluation.macro_f1`, for many resamples at once.

    Classes that a resample has no row of are left out of its mean.
    """
    total, present = np.array(0.0), np.array(0)
    for label in np.unique(labels):
        actual, predicted = labels == label, predictions == label
        support = actual.sum(axis=axis)
        hits = (actual & predicted).sum(axis=axis)
        total = total + np.where(support > 0, 2 * hits / np.maximum(support + predicted.sum(axis=axis), 1), 0.0)
        present = present + (support > 0)
    return total / present


def bootstrap_intervals(
    labels: np.ndarray, predictions: np.ndarray, reference: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """95 % percentile intervals (Efron & Tibshirani 1993) of macro F1, and of its change against the reference.

    Rows are drawn with replacement, each with its label and both predictions (paired), so that what both models find
    hard cancels out of the change.

    Args:
        labels, predictions, reference: [rows] of label names or ids; the reference is the teacher's predictions.

    Returns:
        `macro_f1_ci` (`low`, `high`) and `macro_f1_change` (`value`, `low`, `high`).
    """
    from scipy import stats

    names = np.unique(np.concatenate([labels, predictions, reference]))
    rows = [np.searchsorted(names, column) for column in (labels, predictions, reference)]

    def statistic(labels, predictions, reference, axis=-1):
        own = resampled_macro_f1(labels, predictions, axis)
        return np.stack([own, own - resampled_macro_f1(labels, reference, axis)])

    drawn = stats.bootstrap(
        rows,
        statistic,
        n_resamples=resamples,
        batch=max(1, BATCH_BYTES // (8 * len(labels))),
        vectorized=True,
        paired=True,
        confidence_level=CONFIDENCE,
        method="percentile",
        rng=np.random.default_rng(seed),
    )
    (low, low_change), (high, high_change) = drawn.confidence_interval
    value = float(statistic(*rows)[1])
    return {
        "macro_f1_ci": {"low": float(low), "high": float(high)},
        "macro_f1_change": {"value": value, "low": float(low_change), "high": float(high_change)},
    }


def mcnemar_p(labels: np.ndarray, predictions: np.ndarray, reference: np.ndarray) -> float:
    """Two-sided exact p-value of McNemar's test (1947) that both are right on as many rows, all [rows].

    Only rows that one gets right and the other wrong count; each way is as likely as the other if neither is better.
    """
    from scipy import stats

    right, reference_right = predictions == labels, reference == labels
    lost, won = int((reference_right & ~right).sum()), int((right & ~reference_right).sum())
    return float(stats.binomtest(lost, lost + won).pvalue) if lost + won else 1.0


def verdict(change: dict[str, float], margin: float) -> str:
    """What the interval of a change in macro F1 allows to be said of a variant against the teacher.

    "better" and "worse": the interval excludes 0. "no worse": it also excludes a loss of more than `margin`
    (non-inferiority). "undecided": these test rows are too few to tell.
    """
    if change["low"] > 0:
        return "better"
    if change["low"] >= -margin:
        return "no worse"
    return "worse" if change["high"] < 0 else "undecided"
