"""Whether a model is right as often as it is confident: expected calibration error, Brier score, reliability."""

import numpy as np
import pandas as pd

BINS = 15
"""Equal steps of confidence, as in Guo et al. 2017."""


def reliability(labels: np.ndarray, probabilities: np.ndarray, names: list[str]) -> pd.DataFrame:
    """Rows by the confidence of their prediction, in `BINS` bins (low, high] of equal width; empty ones left out.

    Args:
        labels: [rows] of true label names.
        probabilities: [rows, labels].
        names: of the columns of `probabilities`.

    Returns:
        Columns `bin` (from 0), `rows`, `confidence` (mean probability of the predicted label), `accuracy`.
    """
    confidence = probabilities.max(axis=1)
    correct = np.array(names)[probabilities.argmax(axis=1)] == labels
    inner = np.linspace(0, 1, BINS + 1)[1:-1]
    frame = pd.DataFrame({"bin": np.searchsorted(inner, confidence), "confidence": confidence, "accuracy": correct})
    table = frame.groupby("bin").agg(
        rows=("confidence", "size"), confidence=("confidence", "mean"), accuracy=("accuracy", "mean")
    )
    return table.reset_index()


def expected_calibration_error(table: pd.DataFrame) -> float:
    """Mean distance of accuracy from confidence over the bins of `reliability`, weighted by rows (Guo et al. 2017)."""
    gaps = (table["accuracy"] - table["confidence"]).abs()
    return float((gaps * table["rows"]).sum() / table["rows"].sum())


def brier(labels: np.ndarray, probabilities: np.ndarray, names: list[str]) -> float:
    """Mean squared distance of the probabilities from the truth, summed over labels: 0 to 2 (Brier 1950)."""
    from sklearn.metrics import brier_score_loss

    order = np.argsort(names)  # scikit-learn wants the labels sorted
    sorted_names = np.array(names)[order]
    return float(
        brier_score_loss(labels, probabilities[:, order], labels=sorted_names, pos_label=None, scale_by_half=False)
    )
