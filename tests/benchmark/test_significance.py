"""Bootstrap, McNemar and the verdict, against scikit-learn, draws of rows and counting."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from fincompress.benchmark.significance import bootstrap_intervals, macro_f1_of_counts, mcnemar_p, verdict
from fincompress.networks.scores import macro_f1

NAMES = np.array(["negative", "neutral", "positive"])


def draw(rows: int, accuracy: float, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Random labels, or predictions that are right with a probability."""
    rng = np.random.default_rng(seed)
    other = NAMES[rng.integers(3, size=rows)]
    return other if labels is None else np.where(rng.random(rows) < accuracy, labels, other)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_macro_f1_of_counts_is_that_of_the_rows(pairs):
    labels, predictions = np.array(pairs).T
    kinds = np.array(list(product(range(3), range(3))))
    counts = np.array([[pairs.count(tuple(kind)) for kind in kinds.tolist()]])
    (found,) = macro_f1_of_counts(np.concatenate([counts, counts]), *kinds.T)[:1]
    assert found == pytest.approx(macro_f1(labels, predictions))


def test_intervals_are_those_of_drawing_rows():
    """Up to the chance of the draws: 20,000 leave an end of an interval within a few thousandths."""
    labels = draw(60, 0, 0)
    ours, teacher = draw(60, 0.7, 1, labels), draw(60, 0.6, 2, labels)
    found = bootstrap_intervals(labels, ours, teacher, resamples=20_000, seed=7)
    rows = np.random.default_rng(1).integers(60, size=(20_000, 60))

    def f1(predictions):
        scores = []
        for name in NAMES:
            actual, said = labels[rows] == name, predictions[rows] == name
            scores.append(2 * (actual & said).sum(axis=1) / (actual.sum(axis=1) + said.sum(axis=1)))
        return np.mean(scores, axis=0)

    own, change = found["macro_f1_ci"], found["macro_f1_change"]
    for interval, drawn in ((own, f1(ours)), (change, f1(ours) - f1(teacher))):
        assert (interval["low"], interval["high"]) == pytest.approx(tuple(np.percentile(drawn, [2.5, 97.5])), abs=4e-3)
    scored = [f1_score(labels, said, average="macro", labels=NAMES) for said in (ours, teacher)]
    assert change["value"] == pytest.approx(scored[0] - scored[1])


def test_pairing_makes_the_change_surer_than_either_score():
    labels = draw(300, 0, 0)
    teacher = draw(300, 0.7, 1, labels)
    ours = np.where(np.arange(300) < 6, NAMES[0], teacher)  # the same but for six rows
    found = bootstrap_intervals(labels, ours, teacher, resamples=500, seed=0)
    width = {key: found[key]["high"] - found[key]["low"] for key in found}
    assert width["macro_f1_change"] < width["macro_f1_ci"] / 3
    same = bootstrap_intervals(labels, teacher, teacher, resamples=500, seed=0)["macro_f1_change"]
    assert same == {"value": 0, "low": 0, "high": 0}


@pytest.mark.parametrize(("lost", "won"), product([0, 1, 4, 9], [0, 2, 5]))
def test_mcnemar_is_the_share_of_coin_flips_at_least_as_uneven(lost, won):
    labels = np.array(["a"] * (lost + won + 3))
    teacher = np.array(["a"] * lost + ["b"] * won + ["a", "b", "c"])  # the last three: right or wrong alike
    ours = np.array(["b"] * lost + ["a"] * won + ["a", "b", "b"])
    flips = lost + won
    extreme = sum(comb(flips, k) for k in range(flips + 1) if comb(flips, k) <= comb(flips, lost))
    assert mcnemar_p(labels, ours, teacher) == pytest.approx(extreme / 2**flips)


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (0.001, 0.02, "better"),
        (-0.01, 0.02, "no worse"),
        (-0.01, -0.002, "slightly worse"),
        (-0.011, -0.002, "worse"),
        (-0.02, 0.01, "undecided"),
        (-0.02, 0.0, "undecided"),
        (-0.03, -0.001, "worse"),
        (0.0, 0.0, "no worse"),
    ],
)
def test_a_verdict_claims_no_more_than_the_interval_allows(low, high, said):
    assert verdict({"low": low, "high": high}, margin=0.01) == said
