"""What is made of timings: spread, ties, curves over length and batch size."""

import numpy as np
import pandas as pd
import pytest

from fincompress.benchmark.latency import (
    RESAMPLES,
    by_batch,
    by_length,
    holm,
    median_over,
    not_told_from,
    quantiles,
    round_medians,
)


def rounds(medians: dict[str, list[float]]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {"variant": name, "protocol": "real", "round": number, "p50_ms": ms, "disturbed": False}
            for name, row in medians.items()
            for number, ms in enumerate(row)
        ]
    )


def test_a_drift_that_hits_both_alike_does_not_hide_who_is_faster():
    drift = np.linspace(1, 3, 10)
    told = rounds({"a": list(10 * drift), "b": list(10.5 * drift)})
    assert not_told_from(told, "real", "a") == not_told_from(told, "real", "b") == []


def test_variants_that_take_turns_at_being_faster_are_not_told_apart_and_the_nearest_comes_first():
    even = [10, 12] * 5
    table = rounds({"a": even, "b": even[::-1], "c": [11.2, 11.1] * 5, "d": [90] * 10})
    assert [not_told_from(table, "real", name) for name in "abcd"] == [["b", "c"], ["a", "c"], ["a", "b"], []]


def test_too_few_rounds_tell_nothing_apart():
    assert not_told_from(rounds({"a": [1] * 5, "b": [9] * 5}), "real", "a") == ["b"]
    assert not_told_from(rounds({"a": [1] * 6, "b": [9] * 6}), "real", "a") == []


def test_of_many_comparisons_some_are_lost_by_chance_and_the_correction_keeps_them_together():
    """Nine wins of ten have p = 0.021, ten of ten p = 0.002: alone either is told apart, of twenty only the second."""
    nine, ten = [9] * 9 + [11], [9] * 10
    assert not_told_from(rounds({"a": [10] * 10, "nine": nine}), "real", "a") == []
    many = {"a": [10] * 10, "ten": ten, **{f"nine{number}": nine for number in range(18)}}
    assert not_told_from(rounds(many), "real", "a") == sorted(f"nine{number}" for number in range(18))
    all_slower = {"a": [1] * 10, **{str(number): [2] * 10 for number in range(19)}}
    assert not_told_from(rounds(all_slower), "real", "a") == [], "ten rounds are enough for nineteen others"


def test_holm_rejects_step_by_step():
    """Worked by hand at 0.05: 0.01 ≤ 0.05/4, 0.014 ≤ 0.05/3, 0.03 > 0.05/2, and what comes after is kept too."""
    assert holm({"a": 0.03, "b": 0.01, "c": 0.04, "d": 0.014}, 0.05) == {"b", "d"}
    assert holm({"a": 0.04}, 0.05) == {"a"} and holm({}, 0.05) == set()


def samples(rounds: list[list[float]], first: int = 0) -> pd.DataFrame:
    rows = [(first + number, ms) for number, row in enumerate(rounds) for ms in row]
    return pd.DataFrame(rows, columns=["round", "ms"])


def test_a_median_pools_the_rounds_and_its_interval_is_over_draws_of_them():
    table = samples([[1, 2, 9], [3, 4, 5]])
    found = median_over(table, "ms", seed=0)
    assert found.value == 3.5
    # three draws in four hold both rounds or one twice: medians 2 (first twice), 3.5 (both), 4 (second twice)
    values, counts = np.unique(found.drawn, return_counts=True)
    assert values.tolist() == [2, 3.5, 4] and counts / RESAMPLES == pytest.approx([0.25, 0.5, 0.25], abs=0.05)
    assert found.interval() == {"low": 2, "high": 4}
    shown = quantiles(table, "ms", seed=0)
    assert shown == {
        "p50": 3.5,
        "p95": round(np.percentile([1, 2, 3, 4, 5, 9], 95), 4),
        "p99": 8.8,
        "low": 2,
        "high": 4,
    }


def test_drawn_medians_are_those_of_numpy_over_the_same_rounds():
    rng = np.random.default_rng(1)
    parts = [list(rng.random(size)) for size in (3, 4, 5)]  # rounds need not be equally long
    found = median_over(samples(parts, first=7), "ms", seed=3)
    picks = np.random.default_rng([3, 7]).integers(3, size=(RESAMPLES, 3))
    expected = [np.median(np.concatenate([parts[pick] for pick in row])) for row in picks[:50]]
    np.testing.assert_allclose(found.drawn[:50], expected)


def test_a_drift_cancels_out_of_a_ratio_and_not_out_of_a_median():
    drift = np.linspace(1, 3, 10)
    teacher, student = (samples([[scale * speed] * 5 for speed in drift]) for scale in (10.0, 2.5))
    ratio = median_over(teacher, "ms", 0) / median_over(student, "ms", 0)
    assert ratio.value == pytest.approx(4) and ratio.interval() == pytest.approx({"low": 4, "high": 4})
    own = median_over(student, "ms", 0).interval()
    assert own["low"] < 4.5 and own["high"] > 5.5
    later = samples([[2.5 * speed] * 5 for speed in drift], first=10)
    apart = (median_over(teacher, "ms", 0) / median_over(later, "ms", 0)).interval()
    assert apart["low"] < 3.5 and apart["high"] > 4.5, "rounds of another group are drawn independently"


def test_round_medians_are_of_each_round():
    table = samples([[1, 2, 9], [3, 4, 5]]).assign(variant="a", protocol="real", disturbed=False)
    assert round_medians(table)["p50_ms"].tolist() == [2, 4]


def test_curves_have_a_median_and_the_range_of_the_rounds():
    lengths = pd.DataFrame({"variant": "a", "length": 16, "round": [0, 0, 0, 1, 1, 1], "ms": [1, 2, 9, 3, 4, 5]})
    assert by_length(lengths).to_dict("records") == [{"variant": "a", "length": 16, "p50_ms": 3.5, "low": 2, "high": 4}]
    batches = pd.DataFrame({"variant": "a", "batch_size": [1, 1, 8, 8], "round": [0, 1] * 2, "per_s": [5, 7, 20, 30]})
    assert by_batch(batches)["per_s"].tolist() == [6, 25] and by_batch(batches)["low"].tolist() == [5, 20]
