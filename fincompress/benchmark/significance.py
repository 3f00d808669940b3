"""How sure a difference in macro F1 is: bootstrap intervals, McNemar's test, and a verdict in a word."""

import numpy as np

CONFIDENCE = 0.95
_AT_ONCE = 2_000_000  # drawn counts that are held in memory: with many labels there are thousands of kinds of rows


def macro_f1_of_counts(counts: np.ndarray, labels: np.ndarray, predictions: np.ndarray) -> np.ndarray:
    """Macro F1 where rows are counted by what they are: that of `networks.scores.macro_f1`, for many samples at once.

    Classes that a sample has no row of are left out of its mean.

    Args:
        counts: [samples, kinds] of rows.
        labels, predictions: [kinds] of ids: the label of a kind's rows, and what is predicted for them.

    Returns:
        [samples].
    """
    # as floats, which hold counts exactly and are multiplied many times as fast; [kinds, classes]
    actual, predicted = ((ids[:, None] == np.unique(labels)).astype(float) for ids in (labels, predictions))
    counts = counts.astype(float)
    support, named, hits = (counts @ kinds for kinds in (actual, predicted, actual * predicted))  # [samples, classes]
    scores = 2 * hits / np.maximum(support + named, 1)
    return np.where(support > 0, scores, 0).sum(axis=1) / (support > 0).sum(axis=1)


def bootstrap_intervals(
    labels: np.ndarray, predictions: np.ndarray, reference: np.ndarray, resamples: int, seed: int
) -> dict[str, dict[str, float]]:
    """95 % percentile intervals (Efron & Tibshirani 1993) of macro F1, and of its change against the reference.

    Rows are drawn with replacement, each with its label and both predictions (paired), so that what both models find
    hard cancels out of the change. Only how many rows of each kind are drawn matters, that is with each combination of
    label and predictions, so these counts are drawn, from the multinomial distribution that they have.

    Args:
        labels, reference: [rows] of label names or ids; the reference is the teacher's predictions.
        predictions: [rows], or [repetitions, rows] of several trainings, whose mean macro F1 then counts.

    Returns:
        `macro_f1_ci` (`low`, `high`) and `macro_f1_change` (`value`, `low`, `high`).
    """
    columns = np.stack([labels, *np.atleast_2d(predictions), reference])
    rows = np.unique(columns, return_inverse=True)[1]
    kinds, counts = np.unique(rows.reshape(columns.shape), axis=1, return_counts=True)
    label, *own, other = kinds  # [kinds] each

    def scored(table: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Macro F1 of the predictions, their mean where there are several, and of the reference, [samples] each."""
        each = [macro_f1_of_counts(table, label, said) for said in own]
        return np.mean(each, axis=0), macro_f1_of_counts(table, label, other)

    generator, shares = np.random.default_rng(seed), counts / counts.sum()
    size = max(1, _AT_ONCE // len(counts))
    drawn = [
        scored(generator.multinomial(counts.sum(), shares, size=min(size, resamples - start)))
        for start in range(0, resamples, size)
    ]
    own_scores, other_scores = (np.concatenate(part) for part in zip(*drawn, strict=True))
    tail = 50 * (1 - CONFIDENCE)
    bounds = [tail, 100 - tail]
    low, high = np.percentile(own_scores, bounds)
    low_change, high_change = np.percentile(own_scores - other_scores, bounds)
    seen, seen_reference = scored(counts[None])
    value = float(seen[0] - seen_reference[0])
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

    "better" and "worse": the interval excludes 0. "slightly worse": it does, but also excludes a loss of more than
    `margin`. "no worse": it includes 0 and excludes such a loss (non-inferiority). "undecided": these test rows are too
    few to tell.
    """
    if change["low"] > 0:
        return "better"
    if change["high"] < 0:
        return "slightly worse" if change["low"] >= -margin else "worse"
    return "no worse" if change["low"] >= -margin else "undecided"
