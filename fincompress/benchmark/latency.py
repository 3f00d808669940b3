"""What timings say: percentiles, ratios, how sure they are, and which variants the rounds cannot tell apart.

Rounds are interleaved, so a round sees all variants under the same drift of the machine. Intervals therefore come from
drawing whole rounds with replacement, the same ones for both sides of a ratio (a paired bootstrap, Efron & Tibshirani
1993).
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

PERCENTILES = (50, 95, 99)
TOLD_APART = 0.05  # p-value, after Holm's correction
CONFIDENCE = 0.95
RESAMPLES = 2000


@dataclass(frozen=True)
class Timing:
    """A median over rounds, or a ratio of such, and what it is over other draws of the rounds."""

    value: float
    drawn: np.ndarray  # [RESAMPLES]

    def __truediv__(self, other: "Timing") -> "Timing":
        return Timing(self.value / other.value, self.drawn / other.drawn)

    def interval(self) -> dict[str, float]:
        """`low` and `high`: the 95 % percentile interval."""
        tail = 50 * (1 - CONFIDENCE)
        low, high = np.percentile(self.drawn, [tail, 100 - tail])
        return {"low": float(low), "high": float(high)}


def median_over(samples: pd.DataFrame, column: str, seed: int) -> Timing:
    """The median of a column, all rounds pooled.

    Args:
        samples: rows of one variant and protocol. Those of two variants over the same rounds get the same draws.
    """
    table = samples.sort_values(column)
    numbers, rounds = np.unique(table["round"], return_inverse=True)
    rng = np.random.default_rng([seed, int(numbers[0])])  # of a group of variants, which shares its rounds
    picks = rng.integers(len(numbers), size=(RESAMPLES, len(numbers)))
    times = np.zeros((RESAMPLES, len(numbers)), dtype=int)  # that a round is drawn
    np.add.at(times, (np.arange(RESAMPLES)[:, None], picks), 1)
    values = table[column].to_numpy()
    return Timing(float(np.median(values)), _weighted_medians(values, times[:, rounds]))


def _weighted_medians(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """[draws] of medians of rising `values` [n], each of which counts `weights` [draws, n] times."""
    reached = weights.cumsum(axis=1)
    total = reached[:, -1:]
    middle = [(reached > place).argmax(axis=1) for place in ((total - 1) // 2, total // 2)]
    return (values[middle[0]] + values[middle[1]]) / 2


def quantiles(samples: pd.DataFrame, column: str, seed: int) -> dict[str, float]:
    """`p50`, `p95`, `p99` of a column in ms, rounds pooled; `low` and `high`: the interval of `p50`.

    Args:
        samples: rows of one variant and protocol.
    """
    found = {f"p{q}": float(np.percentile(samples[column], q)) for q in PERCENTILES}
    return {key: round(value, 4) for key, value in (found | median_over(samples, column, seed).interval()).items()}


def round_medians(samples: pd.DataFrame) -> pd.DataFrame:
    """Median latency of every variant, protocol and round, text in and label out, and whether it was disturbed."""
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


def not_told_from(rounds: pd.DataFrame, protocol: str, name: str) -> list[str]:
    """The variants whose latency the rounds cannot tell from that of `name`, the nearest first.

    Two are told apart where one is the faster in so many rounds that chance is ruled out (two-sided sign test), at
    p < 0.05 after Holm's correction for as many comparisons as there are other variants. Ten rounds can tell 19
    variants from one. A variant that shares no round with it (see `groups`) is never told apart.

    Args:
        rounds: what `round_medians` returns.
    """
    from scipy import stats

    table = rounds[rounds["protocol"] == protocol].pivot(index="round", columns="variant", values="p50_ms")
    p_values = {}
    for other in table.columns.drop(name):
        gaps = table[other] - table[name]
        faster, slower = int((gaps < 0).sum()), int((gaps > 0).sum())
        p_values[other] = stats.binomtest(faster, faster + slower).pvalue if faster + slower else 1.0
    alike = p_values.keys() - holm(p_values, TOLD_APART)
    medians = table.median()
    return sorted(alike, key=lambda other: (abs(medians[other] - medians[name]), other))


def holm(p_values: dict[str, float], level: float) -> set[str]:
    """The hypotheses that are rejected at a family-wise error rate (Holm 1979)."""
    rejected: set[str] = set()
    for name, p_value in sorted(p_values.items(), key=lambda item: item[1]):
        if p_value > level / (len(p_values) - len(rejected)):
            break
        rejected.add(name)
    return rejected
