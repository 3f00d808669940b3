"""Timed rounds over live workers: who takes a turn when, what a turn times, and when it is repeated.

In each round all workers take a turn, in shuffled order, while the parent blocks on a pipe. Every turn times the two
protocols; some rounds, spread evenly over the run, also time the side measurements, latency by length and throughput
by batch size. A turn that was disturbed is repeated, and flagged if that does not help. What disturbs it is other
programs, time that a virtual machine's host took away, swapping, or whatever made it much slower than the same
variant's other turns.
"""

import math
import random
import statistics
import time
from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

from fincompress.benchmark.machine import Watch
from fincompress.benchmark.workers import Worker
from fincompress.core.sections import BenchmarkParams

SETTLE_SECONDS = 0.06  # for threads that spin after their last work; a longer spin counts as other load
WARM_AGAIN = 2  # untimed sentences at the start of a turn, after the others' turns
RUNS_A_LENGTH = 5  # a side round
BULK_BATCHES = 4  # of the largest size, that throughput is timed on: enough for sorting by length to matter
SLOW = 1.4  # times the median of a variant's other turns; what sentences a turn gets makes a tenth of difference
COMPARED_TURNS = 3  # earlier ones, at least, before a turn can be called slow
REPEATED_TURNS = 0.1  # of all turns, at most: where others are always at work, repeating helps nobody
PROTOCOLS = ("real", "padded")
CAUSES = ("load", "steal", "swap", "slow")
"""What may disturb a turn, see `machine.Seen.cause` and `SLOW`."""


@dataclass(frozen=True)
class Sentences:
    """What every worker is timed on: the same sentences, drawn from the test split."""

    warmups: list[str]
    runs: list[str]
    bulk: list[str]  # for every batch size the same: lengths differ too much

    @classmethod
    def draw(cls, texts: list[str], params: BenchmarkParams, rng: random.Random) -> "Sentences":
        """As many as `params` asks for, with replacement."""
        runs = [rng.choice(texts) for _ in range(params.runs)]
        warmups = [rng.choice(texts) for _ in range(params.warmups)]
        bulk = [rng.choice(texts) for _ in range(BULK_BATCHES * max(batch_sizes(params)))]
        return cls(warmups, runs, bulk)

    def of_round(self, number: int, rounds: int) -> list[str]:
        """The share of `runs` that is timed in a round."""
        return self.runs[number * len(self.runs) // rounds : (number + 1) * len(self.runs) // rounds]


def batch_sizes(params: BenchmarkParams) -> list[int]:
    """Those that throughput is timed at, rising."""
    return sorted({*params.batch_sizes, params.batch_size})


Turn = tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]
"""Rows of `Measurements.samples`, `lengths` and `throughput`."""


def side_rounds(params: BenchmarkParams) -> set[int]:
    """Numbers of the rounds with side measurements, spread evenly."""
    return {int((index + 0.5) * params.rounds / params.side_rounds) for index in range(params.side_rounds)}


def timed_rounds(
    workers: list[Worker], texts: list[str], params: BenchmarkParams, seed: int, first: int = 0
) -> list[pd.DataFrame]:
    """Warm up, then let all workers take turns, round after round.

    Args:
        texts: the test split's.
        first: the number of the first round.

    Returns:
        `samples`, `lengths` and `throughput` of `protocol.Measurements`.
    """
    rng = random.Random(seed)
    sentences = Sentences.draw(texts, params, rng)
    for worker in tqdm(workers, desc="warm up", disable=None):
        for pad_to in (None, params.padded_length):
            worker.ask("single", sentences.warmups, pad_to)
    tables: list[list[pd.DataFrame]] = [[], [], []]
    repeats, aside = math.ceil(REPEATED_TURNS * params.rounds * len(workers)), side_rounds(params)
    medians: dict[str, list[float]] = {worker.variant.name: [] for worker in workers}
    for number in tqdm(range(params.rounds), desc="rounds", disable=None):
        part = sentences.of_round(number, params.rounds)
        bulk = sentences.bulk if number in aside else None
        for worker in rng.sample(workers, len(workers)):
            earlier = medians[worker.variant.name]
            turn, cause, repeated = _undisturbed_turn(worker, part, bulk, params, earlier, repeats)
            earlier.append(_median(turn))
            repeats -= repeated
            for table, rows in zip(tables, turn, strict=True):
                table.append(rows.assign(variant=worker.variant.name, round=first + number, cause=cause))
    samples, lengths, throughput = (pd.concat(table, ignore_index=True) for table in tables)
    return [with_slow_turns(samples, first, medians), lengths, throughput]


def with_slow_turns(samples: pd.DataFrame, first: int, medians: dict[str, list[float]]) -> pd.DataFrame:
    """`samples` with the cause `slow` where a turn has none and was slow beside the variant's other turns.

    Args:
        first: the number of the first round.
        medians: variant -> the median of each of its turns at real lengths, in ms.
    """
    samples = samples.copy()
    for name, own in medians.items():
        for number, median in enumerate(own):
            others = own[:number] + own[number + 1 :]
            if len(others) >= COMPARED_TURNS and median > SLOW * statistics.median(others):
                turn = (samples["variant"] == name) & (samples["round"] == first + number)
                samples.loc[turn & (samples["cause"] == ""), "cause"] = "slow"
    return samples


def _undisturbed_turn(
    worker: Worker,
    texts: list[str],
    bulk: list[str] | None,
    params: BenchmarkParams,
    earlier: list[float],
    repeats: int,
) -> tuple[Turn, str, int]:
    """A worker's turn, repeated while something disturbs it: up to `max_repeats` times, and up to `repeats`.

    Args:
        earlier: the medians of the variant's turns so far, see `_median`.

    Returns:
        What `_turn` returns, what disturbed the last try (empty if nothing did), and how often it was repeated.
    """
    repeated = 0
    while True:
        time.sleep(SETTLE_SECONDS)
        watch = Watch(worker.process.pid)
        turn = _turn(worker, texts, bulk, params)
        cause = watch.seen().cause(params.load_threshold)
        if not cause and len(earlier) >= COMPARED_TURNS and _median(turn) > SLOW * statistics.median(earlier):
            cause = "slow"
        if not cause or repeated == min(params.max_repeats, repeats):
            return turn, cause, repeated
        repeated += 1


def _median(turn: Turn) -> float:
    """Of a turn's latencies at real lengths, in ms."""
    samples = turn[0]
    return float(samples.loc[samples["protocol"] == PROTOCOLS[0], "ms"].median())


def _turn(worker: Worker, texts: list[str], bulk: list[str] | None, params: BenchmarkParams) -> Turn:
    """Rows of `Measurements.samples`, `lengths` and `throughput`; the last two only where there is a `bulk`."""

    def single(texts: list[str], pad_to: int | None) -> dict[str, list[float]]:
        worker.ask("single", texts[:WARM_AGAIN], pad_to)
        return worker.ask("single", texts, pad_to)

    samples = []
    for protocol, pad_to in zip(PROTOCOLS, (None, params.padded_length), strict=True):
        samples.append(pd.DataFrame({"protocol": protocol, **single(texts, pad_to)}))
    by_length, throughput = {}, []
    if bulk is not None:
        by_length = {
            length: single(texts[:RUNS_A_LENGTH], length)["ms"]
            for length in params.lengths
            if length != params.padded_length
        }
        throughput = [{"batch_size": size, "per_s": worker.ask("batches", bulk, size)} for size in batch_sizes(params)]
    if params.padded_length in params.lengths:  # that is the padded protocol, and has its runs
        by_length[params.padded_length] = samples[-1]["ms"].tolist()
    lengths = [{"length": length, "ms": ms} for length, samples_ms in by_length.items() for ms in samples_ms]
    return (
        pd.concat(samples),
        pd.DataFrame(lengths, columns=["length", "ms"]).astype({"length": int, "ms": float}),
        pd.DataFrame(throughput, columns=["batch_size", "per_s"]).astype({"batch_size": int, "per_s": float}),
    )
