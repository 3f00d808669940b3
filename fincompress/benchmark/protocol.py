"""The latency protocol: interleaved rounds over live workers, with other load on the machine watched.

Variants measured one after another can be ranked wrongly by a drift of the machine. Here every variant lives in a
process of its own with the same number of threads; in each round all take a turn, in shuffled order, while the
parent blocks on a pipe. A turn during which others used the machine is repeated, and flagged if that does not help.
"""

import contextlib
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from multiprocessing import Pipe

import numpy as np
import pandas as pd
from tqdm import tqdm

from fincompress.benchmark.machine import OtherLoad
from fincompress.core.sections import BenchmarkParams
from fincompress.core.variants import Variant

SETTLE_SECONDS = 0.1  # for threads that spin after their last work; a longer spin counts as other load
WARM_AGAIN = 2  # untimed sentences at the start of a turn, after the others' turns
RUNS_A_LENGTH = 3  # a round
PROTOCOLS = ("real", "padded")


class Worker:
    """A variant's process and the pipe to it."""

    def __init__(self, variant: Variant, threads: int):
        self.variant = variant
        self._connection, theirs = Pipe()
        count = str(threads)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fincompress.benchmark.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count},
        )
        theirs.close()
        self._connection.send((str(variant.folder), variant.runtime, threads))

    def wait_until_loaded(self) -> None:
        """Block until the model is loaded, which must come before the first request."""
        self._receive()

    def ask(self, name: str, *arguments):
        """Send a request of `worker._answer` and block until its answer is there."""
        with contextlib.suppress(OSError):  # `_receive` says what became of the process
            self._connection.send((name, arguments))
        return self._receive()

    def hang_up(self) -> None:
        """Let the process end, without waiting for it."""
        self._connection.close()

    def close(self) -> None:
        """End the process."""
        self.hang_up()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _receive(self):
        try:
            status, answer = self._connection.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"the worker of {self.variant.name} died (exit {self.process.wait()})") from None
        if status == "error":
            raise RuntimeError(f"the worker of {self.variant.name} failed:\n{answer}")
        return answer


@dataclass
class Measurements:
    """What a benchmark run saw of all variants."""

    samples: pd.DataFrame  # variant, protocol, round, ms, encode_ms, disturbed: one row a timed sentence
    lengths: pd.DataFrame  # variant, length, round, ms, disturbed: a sentence cut or padded to `length` word pieces
    throughput: pd.DataFrame  # variant, batch_size, round, per_s, disturbed
    cold_starts: pd.DataFrame  # variant, s: from the start of a process to its first prediction
    logits: dict[str, dict[str, np.ndarray]]  # variant -> split -> [rows, labels]
    labels: dict[str, list[str]]  # variant -> label names in the order of its logits
    peak_rss_mb: dict[str, float]
    batch_size: int  # of those in `throughput`, the one to quote


def measure(variants: list[Variant], texts: dict[str, list[str]], params: BenchmarkParams, seed: int) -> Measurements:
    """Run every variant over `texts` (split -> texts; latency on `test`) and time it.

    Latency is that of one sentence at a time, as it comes (`real`) and padded to `params.padded_length` (`padded`),
    `params.runs` times each after `params.warmups` untimed runs; every variant sees the same sentences. Beside it,
    latency at each of `params.lengths`, and the same sentences in batches of each size. Cold starts come first, one
    process at a time, with the files in the system's cache from the second on.
    """
    cold = _cold_starts(variants, texts["test"], params, random.Random(seed))
    workers: list[Worker] = []
    try:
        for variant in variants:  # all start at once: most of a worker's start is spent on imports
            workers.append(Worker(variant, params.threads))
        for worker in workers:
            worker.wait_until_loaded()
        logits = {}
        for worker in tqdm(workers, desc="score", disable=None):
            logits[worker.variant.name] = {name: worker.ask("logits", rows) for name, rows in texts.items()}
        labels = {w.variant.name: w.ask("labels") for w in workers}
        turns = _rounds(workers, texts["test"], params, seed)
        peaks = {w.variant.name: w.ask("peak_rss_mb") for w in workers}
    finally:
        for worker in workers:
            worker.hang_up()
        for worker in workers:
            worker.close()
    return Measurements(*turns, cold, logits, labels, peaks, params.batch_size)


def _cold_starts(variants: list[Variant], texts: list[str], params: BenchmarkParams, rng: random.Random):
    """Seconds from the start of a process to its first prediction, `params.cold_starts` times a variant."""
    rows = []
    for _ in tqdm(range(params.cold_starts), desc="cold starts", disable=None):
        for variant in rng.sample(variants, len(variants)):
            start = time.perf_counter()
            worker = Worker(variant, params.threads)
            try:
                worker.wait_until_loaded()
                worker.ask("single", texts[:1], None)
                rows.append({"variant": variant.name, "s": time.perf_counter() - start})
            finally:
                worker.close()
    return pd.DataFrame(rows, columns=["variant", "s"])


def _rounds(workers: list[Worker], texts: list[str], params: BenchmarkParams, seed: int) -> list[pd.DataFrame]:
    """Warm up, then let all workers take turns, round after round; `samples`, `lengths` and `throughput`."""
    rng = random.Random(seed)
    runs = [rng.choice(texts) for _ in range(params.runs)]
    warmups = [rng.choice(texts) for _ in range(params.warmups)]
    sizes = sorted({*params.batch_sizes, params.batch_size})
    bulk = [rng.choice(texts) for _ in range(sizes[-1])]  # the same for every size: lengths differ too much
    for worker in tqdm(workers, desc="warm up", disable=None):
        for pad_to in (None, params.padded_length):
            worker.ask("single", warmups, pad_to)
        for length in params.lengths:
            worker.ask("single", warmups[:WARM_AGAIN], length)
        for size in sizes:
            worker.ask("batches", bulk, size)
    tables: list[list[pd.DataFrame]] = [[], [], []]
    for number in tqdm(range(params.rounds), desc="rounds", disable=None):
        part = runs[number * params.runs // params.rounds : (number + 1) * params.runs // params.rounds]
        for worker in rng.sample(workers, len(workers)):
            turn, disturbed = _undisturbed_turn(worker, part, bulk, sizes, params)
            for table, rows in zip(tables, turn, strict=True):
                table.append(rows.assign(variant=worker.variant.name, round=number, disturbed=disturbed))
    return [pd.concat(table, ignore_index=True) for table in tables]


def _undisturbed_turn(worker: Worker, texts: list[str], bulk: list[str], sizes: list[int], params: BenchmarkParams):
    """A worker's turn, repeated up to `max_repeats` times while other load disturbs it."""
    for _ in range(params.max_repeats + 1):
        time.sleep(SETTLE_SECONDS)
        load = OtherLoad(worker.process.pid)
        turn = _turn(worker, texts, bulk, sizes, params)
        disturbed = load.share() > params.load_threshold
        if not disturbed:
            break
    return turn, disturbed


def _turn(worker: Worker, texts: list[str], bulk: list[str], sizes: list[int], params: BenchmarkParams):
    """Rows of `Measurements.samples`, `lengths` and `throughput`."""

    def single(texts: list[str], pad_to: int | None) -> tuple[list[float], list[float]]:
        worker.ask("single", texts[:WARM_AGAIN], pad_to)
        return worker.ask("single", texts, pad_to)

    samples = []
    for protocol, pad_to in zip(PROTOCOLS, (None, params.padded_length), strict=True):
        encode_ms, forward_ms = single(texts, pad_to)
        samples.append(pd.DataFrame({"protocol": protocol, "ms": forward_ms, "encode_ms": encode_ms}))
    lengths = [
        pd.DataFrame({"length": length, "ms": single(texts[:RUNS_A_LENGTH], length)[1]}) for length in params.lengths
    ]
    throughput = [{"batch_size": size, "per_s": worker.ask("batches", bulk, size)} for size in sizes]
    return pd.concat(samples), pd.concat(lengths), pd.DataFrame(throughput)
