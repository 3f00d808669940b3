"""Timed rounds over live workers: who takes a turn when, what a turn times, and when it is repeated.

In each round all workers take a turn, in shuffled order, while the parent blocks on a pipe. Every turn times the two
protocols; some rounds, spread evenly over the run, also time the side measurements, latency by length and throughput
by batch size. A turn during which others used the machine is repeated, and flagged if that does not help.
"""

import math
import random
import time
from dataclasses import dataclass

import pandas as pd
from tqdm import tqdm

from fincompress.benchmark.machine import OtherLoad
from fincompress.benchmark.workers import Worker
from fincompress.core.sections import BenchmarkParams

SETTLE_SECONDS = 0.06  # for threads that spin after their last work; a longer spin counts as other load
WARM_AGAIN = 2  # untimed sentences at the start of a turn, after the others' turns
RUNS_A_LENGTH = 5  # a side round
REPEATED_TURNS = 0.1  # of all turns, at most: where others are always at work, repeating helps nobody
PROTOCOLS = ("real", "padded")


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
        return cls(warmups, runs, [rng.choice(texts) for _ in range(max(batch_sizes(params)))])

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
    for number in tqdm(range(params.rounds), desc="rounds", disable=None):
        part = sentences.of_round(number, params.rounds)
        bulk = sentences.bulk if number in aside else None
        for worker in rng.sample(workers, len(workers)):
            turn, disturbed, repeated = _undisturbed_turn(worker, part, bulk, params, repeats)
            repeats -= repeated
            for table, rows in zip(tables, turn, strict=True):
                table.append(rows.assign(variant=worker.variant.name, round=first + number, disturbed=disturbed))
    return [pd.concat(table, ignore_index=True) for table in tables]


def _undisturbed_turn(
    worker: Worker, texts: list[str], bulk: list[str] | None, params: BenchmarkParams, repeats: int
) -> tuple[Turn, bool, int]:
    """A worker's turn, repeated while other load disturbs it: up to `max_repeats` times, and up to `repeats`.

    Returns:
        What `_turn` returns, whether the last try was disturbed too, and how often it was repeated.
    """
    repeated = 0
    while True:
        time.sleep(SETTLE_SECONDS)
        load = OtherLoad(worker.process.pid)
        turn = _turn(worker, texts, bulk, params)
        disturbed = load.share() > params.load_threshold
        if not disturbed or repeated == min(params.max_repeats, repeats):
            return turn, disturbed, repeated
        repeated += 1


def _turn(worker: Worker, texts: list[str], bulk: list[str] | None, params: BenchmarkParams) -> Turn:
    """Rows of `Measurements.samples`, `lengths` and `throughput`; the last two only where there is a `bulk`."""

    def single(texts: list[str], pad_to: int | None) -> tuple[list[float], list[float]]:
        worker.ask("single", texts[:WARM_AGAIN], pad_to)
        return worker.ask("single", texts, pad_to)

    samples = []
    for protocol, pad_to in zip(PROTOCOLS, (None, params.padded_length), strict=True):
        encode_ms, forward_ms = single(texts, pad_to)
        samples.append(pd.DataFrame({"protocol": protocol, "ms": forward_ms, "encode_ms": encode_ms}))
    by_length, throughput = {}, []
    if bulk is not None:
        by_length = {
            length: single(texts[:RUNS_A_LENGTH], length)[1]
            for length in params.lengths
            if length != params.padded_length
        }
        throughput = [{"batch_size": size, "per_s": worker.ask("batches", bulk, size)} for size in batch_sizes(params)]
    if params.padded_length in params.lengths:  # that is the padded protocol, and has its runs
        by_length[params.padded_length] = forward_ms
    lengths = [{"length": length, "ms": ms} for length, samples_ms in by_length.items() for ms in samples_ms]
    return (
        pd.concat(samples),
        pd.DataFrame(lengths, columns=["length", "ms"]).astype({"length": int, "ms": float}),
        pd.DataFrame(throughput, columns=["batch_size", "per_s"]).astype({"batch_size": int, "per_s": float}),
    )
