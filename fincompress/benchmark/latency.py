"""What timings say: percentiles, spread over rounds, and which variants the machine was too noisy to tell apart."""

from itertools import combinations

import numpy as np
import pandas as pd

PERCENTILES = (50, 95, 99)
TOLD_APART = 0.05  # p-value


def percentiles(samples: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """(variant, protocol) -> `p50`, `p95`, `p99` in ms, rounds pooled; `low` and `high`: the extreme round medians."""
    medians = round_medians(samples).groupby(["variant", "protocol"])["p50_ms"].agg(["min", "max"])
    return {
        key: {
            **{f"p{q}": round(float(np.percentile(ms, q)), 4) for q in PERCENTILES},
            "low": round(float(medians.loc[key, "min"]), 4),
            "high": round(float(medians.loc[key, "max"]), 4),
        }
        for key, ms in samples.groupby(["variant", "protocol"])["ms"]
    }


def round_medians(samples: pd.DataFrame) -> pd.DataFrame:
    """Median latency of every variant, protocol and round, and whether the round was disturbed."""
    grouped = samples.groupby(["variant", "protocol", "round"])
    return grouped.agg(p50_ms=("ms", "median"), disturbed=("disturbed", "any")).round(4).reset_index()


def by_length(lengths: pd.DataFrame) -> pd.DataFrame:
    """Median latency of every variant at every length, with the lowest and the highest round's.

    Args:
        lengths: `protocol.Measurements.lengths`.
    """
    rounds = lengths.groupby(["variant", "length", "round"])["ms"].median().rename("p50_ms").reset_index()
    table = _over_rounds(rounds, ["variant", "length"], "p50_ms")
    pooled = lengths.groupby(["variant", "length"])["ms"].median().round(4).to_numpy()
    return table.assign(p50_ms=pooled)


def by_batch(throughput: pd.DataFrame) -> pd.DataFrame:
    """Median sentences a second of every variant at every batch size, with the lowest and the highest round's.

    Args:
        throughput: `protocol.Measurements.throughput`.
    """
    return _over_rounds(throughput, ["variant", "batch_size"], "per_s")


def _over_rounds(table: pd.DataFrame, keys: list[str], column: str) -> pd.DataFrame:
    names = {column: (column, "median"), "low": (column, "min"), "high": (column, "max")}
    return table.groupby(keys).agg(**names).round(4).reset_index()


def not_told_apart(rounds: pd.DataFrame, protocol: str) -> dict[str, list[str]]:
    """Variant -> those whose latency cannot be told from its own, the nearest first.

    Rounds are interleaved, so a round compares two variants under the same drift of the machine. Two are told apart
    where one is the faster in so many rounds that chance is ruled out (two-sided sign test, p < 0.05), which takes at
    least six rounds. Variants that shared no round (see `groups`) are never told apart.

    Args:
        rounds: what `round_medians` returns.
    """
    from scipy import stats

    table = rounds[rounds["protocol"] == protocol].pivot(index="round", columns="variant", values="p50_ms")
    medians = table.median()
    ties: dict[str, list[str]] = {name: [] for name in table}
    for first, second in combinations(table, 2):
        gaps = table[first] - table[second]
        faster, slower = int((gaps < 0).sum()), int((gaps > 0).sum())
        if not faster + slower or stats.binomtest(faster, faster + slower).pvalue >= TOLD_APART:
            ties[first].append(second)
            ties[second].append(first)

    def nearest_first(name: str) -> list[str]:
        return sorted(ties[name], key=lambda other: abs(medians[other] - medians[name]))

    return {name: nearest_first(name) for name in ties}
