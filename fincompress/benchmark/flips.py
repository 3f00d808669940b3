"""What a variant does otherwise than the teacher: flipped predictions, their direction, reversals."""

import numpy as np
import pandas as pd

KINDS = ("right_to_wrong", "wrong_to_right", "wrong_to_wrong")
"""A flip's direction: the teacher's prediction, then the variant's."""


def flip_kinds(labels: np.ndarray, predictions: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Each row's direction, one of `KINDS`, or "" where variant and reference agree; all [rows] of label names."""
    kinds = np.where(reference == labels, KINDS[0], np.where(predictions == labels, KINDS[1], KINDS[2]))
    return np.where(predictions == reference, "", kinds)


def reversals(predictions: np.ndarray, reference: np.ndarray, opposites: list[str]) -> np.ndarray:
    """[rows] of bool: one of the two opposite labels is predicted where the reference says the other."""
    first, second = opposites
    return ((reference == first) & (predictions == second)) | ((reference == second) & (predictions == first))


def flip_table(
    rows: pd.DataFrame,
    predictions: np.ndarray,
    reference: np.ndarray,
    confidence: np.ndarray,
    opposites: list[str] | None,
) -> pd.DataFrame:
    """A row a flip: `id`, `kind`, `reversal`, `label`, `reference`, `predicted`, `confidence` (of the prediction).

    Args:
        rows: the texts' `id` and `label`.
        predictions, reference: [rows] of the variant's and the reference's label names.
        confidence: [rows], the variant's probability of what it predicts.
        opposites: two labels, or None: nothing counts as a reversal.
    """
    kinds = flip_kinds(rows["label"].to_numpy(), predictions, reference)
    table = rows[["id", "label"]].assign(
        kind=kinds,
        reference=reference,
        predicted=predictions,
        confidence=confidence.round(4),
        reversal=reversals(predictions, reference, opposites) if opposites else False,
    )
    return table.loc[kinds != "", ["id", "kind", "reversal", "label", "reference", "predicted", "confidence"]]
