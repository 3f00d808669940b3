"""Bootstrap, McNemar and the verdict, against scikit-learn, scipy and counting."""

from itertools import product
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from sklearn.metrics import f1_score

from fincompress.benchmark.significance import bootstrap_intervals, mcnemar_p, resampled_macro_f1, verdict
from fincompress.networks.scores import macro_f1

NAMES = np.array(["negative", "neutral", "positive"])


def draw(rows: int, accuracy: float, seed: int, labels: np.ndarray | None = None) -> np.ndarray:
    """Random labels, or predictions that are right with a probability."""
    rng = np.random.default_rng(seed)
    other = NAMES[rng.integers(3, size=rows)]
    return other if labels is None else np.where(rng.random(rows) < accuracy, labels, other)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=12))
def test_macro_f1_of_many_resamples_is_that_of_each(pairs):
    labels, predictions = np.array(pairs).T
    stacked = [np.stack([column, column[::-1]]) for column in (labels, predictions)]
    assert resampled_macro_f1(labels, predictions) == pytest.approx(macro_f1(labels, predictions))
    assert resampled_macro_f1(*stacked) == pytest.approx([macro_f1(labels, predictions)] * 2)


def test_intervals_are_those_of_scipy_over_scikit_learn_on_the_same_draws():
    labels = draw(60, 0, 0)
    ours, teacher = draw(60, 0.7, 1, labels), draw(60, 0.6, 2, labels)
    found = bootstrap_intervals(labels, ours, teacher, resamples=400, seed=7)

    def f1(labels, predictions):
        return f1_score(labels, predictions, average="macro", labels=np.unique(labels))

    def interval(statistic):
        drawn = stats.bootstrap(
            [np.arange(60)],
            statistic,
            n_resamples=400,
            vectorized=False,
            method="percentile",
            rng=np.random.default_rng(7),
        )
        return pytest.approx(tuple(drawn.confidence_interval), abs=1e-12)

    own, change = found["macro_f1_ci"], found["macro_f1_change"]
    assert (own["low"], own["high"]) == interval(lambda rows: f1(labels[rows], ours[rows]))
    assert (change["low"], change["high"]) == interval(
        lambda rows: f1(labels[rows], ours[rows]) - f1(labels[rows], teacher[rows])
    )
    assert change["value"] == pytest.approx(f1(labels, ours) - f1(labels, teacher))


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
        (-0.01, -0.002, "no worse"),
        (-0.02, 0.01, "undecided"),
        (-0.02, 0.0, "undecided"),
        (-0.03, -0.001, "worse"),
        (0.0, 0.0, "no worse"),
    ],
)
def test_a_verdict_claims_no_more_than_the_interval_allows(low, high, said):
    assert verdict({"low": low, "high": high}, margin=0.01) == said
