"""Flips, reversals and calibration, counted by hand and by scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss

from fincompress.benchmark.calibration import BINS, brier, expected_calibration_error, reliability
from fincompress.benchmark.flips import flip_table
from fincompress.benchmark.records import length_groups

LABELS = ["positive", "negative", "neutral"]  # not in alphabetical order, as in some published checkpoints
ROWS = pd.DataFrame({"id": [10, 11, 12, 13, 14], "label": ["positive", "positive", "neutral", "negative", "neutral"]})
TEACHER = np.array(["positive", "negative", "positive", "negative", "neutral"])
OURS = np.array(["negative", "positive", "negative", "neutral", "neutral"])


def test_every_flip_is_listed_with_its_direction():
    table = flip_table(ROWS, OURS, TEACHER, np.full(5, 0.51239), ["negative", "positive"])
    assert table.to_dict("list") == {
        "id": [10, 11, 12, 13],
        "kind": ["right_to_wrong", "wrong_to_right", "wrong_to_wrong", "right_to_wrong"],
        "reversal": [True, True, True, False],
        "label": ["positive", "positive", "neutral", "negative"],
        "reference": ["positive", "negative", "positive", "negative"],
        "predicted": ["negative", "positive", "negative", "neutral"],
        "confidence": [0.5124] * 4,
    }
    assert not flip_table(ROWS, OURS, TEACHER, np.ones(5), None)["reversal"].any()
    assert flip_table(ROWS, TEACHER, TEACHER, np.ones(5), None).empty


def scored(rows: int = 400) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(3)
    probabilities = rng.dirichlet([0.6] * 3, size=rows)
    probabilities[:4] = np.eye(3)[[0, 1, 2, 0]]  # certain, so on the last bin's edge
    labels = np.array(LABELS)[[rng.choice(3, p=0.7 * row + 0.1) for row in probabilities]]
    return labels, probabilities


def test_calibration_is_that_of_scikit_learns_curve():
    labels, probabilities = scored()
    table = reliability(labels, probabilities, LABELS)
    confidence = probabilities.max(axis=1)
    correct = np.array(LABELS)[probabilities.argmax(axis=1)] == labels
    accuracy, mean = calibration_curve(correct, confidence, n_bins=BINS)
    np.testing.assert_allclose(table["accuracy"], accuracy)
    np.testing.assert_allclose(table["confidence"], mean)
    assert table["rows"].sum() == len(labels)
    shares = np.histogram(confidence, bins=BINS, range=(0, 1))[0] / len(labels)
    expected = (np.abs(accuracy - mean) * shares[shares > 0]).sum()
    assert expected_calibration_error(table) == pytest.approx(expected)


def test_the_brier_score_is_scikit_learns_and_the_mean_squared_distance():
    labels, probabilities = scored()
    targets = np.array([[label == name for name in LABELS] for label in labels], dtype=float)
    assert brier(labels, probabilities, LABELS) == pytest.approx(((probabilities - targets) ** 2).sum(axis=1).mean())
    reordered = probabilities[:, [1, 2, 0]]
    assert brier(labels, probabilities, LABELS) == pytest.approx(
        brier_score_loss(labels, reordered, labels=sorted(LABELS), scale_by_half=False)
    )


def test_two_labels_are_scored_as_three_are():
    labels, likely = np.array(["up", "down", "up"]), np.array([[0.8, 0.2], [0.6, 0.4], [0.5, 0.5]])
    assert brier(labels, likely, ["up", "down"]) == pytest.approx((2 * 0.04 + 2 * 0.36 + 2 * 0.25) / 3)


def test_a_sure_model_that_is_half_wrong_is_off_by_half():
    certain = np.eye(2)[[0, 0, 1, 1]]
    table = reliability(np.array(["a", "b", "b", "a"]), certain, ["a", "b"])
    assert expected_calibration_error(table) == 0.5 and len(table) == 1


def test_lengths_are_grouped_by_quartile_and_named_by_their_range():
    texts = pd.Series([" ".join(["word"] * count) for count in (1, 2, 3, 4, 5, 6, 7, 20)])
    groups = length_groups(texts)
    assert groups.tolist() == [f"{low}–{high} words" for low, high in ((1, 2), (3, 4), (5, 6), (7, 20)) for _ in "ab"]
    assert length_groups(pd.Series(["one two"] * 5)).tolist() == ["2 words"] * 5
