"""What is made of timings: spread, ties, curves over length and batch size."""

import numpy as np
import pandas as pd
import pytest

from fincompress.benchmark.latency import by_batch, by_length, not_told_apart, percentiles, round_medians


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
    assert not_told_apart(told, "real") == {"a": [], "b": []}


def test_variants_that_take_turns_at_being_faster_are_not_told_apart_and_the_nearest_comes_first():
    even = [10, 12] * 5
    table = rounds({"a": even, "b": even[::-1], "c": [11.2, 11.1] * 5, "d": [90] * 10})
    assert not_told_apart(table, "real") == {"a": ["b", "c"], "b": ["a", "c"], "c": ["a", "b"], "d": []}


def test_too_few_rounds_tell_nothing_apart():
    assert not_told_apart(rounds({"a": [1] * 5, "b": [9] * 5}), "real") == {"a": ["b"], "b": ["a"]}
    assert not_told_apart(rounds({"a": [1] * 6, "b": [9] * 6}), "real") == {"a": [], "b": []}


def test_percentiles_pool_the_rounds_and_show_their_spread():
    samples = pd.DataFrame(
        {"variant": "a", "protocol": "real", "round": [0, 0, 0, 1, 1, 1], "ms": [1, 2, 9, 3, 4, 5], "disturbed": False}
    )
    assert percentiles(samples)["a", "real"] == pytest.approx(
        {"p50": 3.5, "p95": np.percentile([1, 2, 3, 4, 5, 9], 95), "p99": 8.8, "low": 2, "high": 4}
    )
    assert round_medians(samples)["p50_ms"].tolist() == [2, 4]


def test_curves_have_a_median_and_the_range_of_the_rounds():
    lengths = pd.DataFrame({"variant": "a", "length": 16, "round": [0, 0, 0, 1, 1, 1], "ms": [1, 2, 9, 3, 4, 5]})
    assert by_length(lengths).to_dict("records") == [{"variant": "a", "length": 16, "p50_ms": 3.5, "low": 2, "high": 4}]
    batches = pd.DataFrame({"variant": "a", "batch_size": [1, 1, 8, 8], "round": [0, 1] * 2, "per_s": [5, 7, 20, 30]})
    assert by_batch(batches)["per_s"].tolist() == [6, 25] and by_batch(batches)["low"].tolist() == [5, 20]
