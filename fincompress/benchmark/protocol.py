"""The measuring protocol: every variant in a live process of its own, timed in interleaved rounds, and scored.

Variants measured one after another can be ranked wrongly by a drift of the machine. Here every variant lives in a
process with the same number of threads, and all take turns (see `rounds`), as many at once as the memory holds (see
`groups`). Scoring comes last, so that neither timings nor peak memory depend on whether predictions are kept already.
"""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tqdm import tqdm

from fincompress.benchmark.groups import plan
from fincompress.benchmark.int8_peak import int8_peak_gops
from fincompress.benchmark.predictions import Predictions
from fincompress.benchmark.rounds import CAUSES, timed_rounds
from fincompress.benchmark.workers import Worker
from fincompress.core.sections import BenchmarkParams
from fincompress.core.variants import Variant


@dataclass
class Measurements:
    """What a benchmark run saw of all variants.

    Rounds are numbered over all groups; the reference is in each group and so has more rounds where there are several.
    """

    samples: pd.DataFrame  # a row a timed sentence: variant, protocol, round, cause, and the times of `time_single`
    lengths: pd.DataFrame  # variant, length, round, ms, cause: a sentence cut or padded to `length` word pieces
    throughput: pd.DataFrame  # variant, batch_size, round, per_s, cause
    cold_starts: pd.DataFrame  # variant, s: from the start of a process to its first prediction
    logits: dict[str, dict[str, np.ndarray]]  # variant -> split -> [rows, labels]
    labels: dict[str, list[str]]  # variant -> label names in the order of its logits
    peak_rss_mb: dict[str, float]  # of the process that was timed, without scoring the splits
    batch_size: int  # of those in `throughput`, the one to quote
    int8_peak_gops: float  # see `int8_peak`; the higher of one measurement before the rounds and one after them
    groups: int = 1  # of variants whose rounds were interleaved

    def disturbed_turns(self) -> dict[str, int]:
        """Cause -> the turns that it disturbed, of which the last try counts."""
        turns = self.samples.drop_duplicates(["variant", "round"])
        return {cause: int((turns["cause"] == cause).sum()) for cause in CAUSES}


def measure(
    variants: list[Variant],
    texts: dict[str, list[str]],
    params: BenchmarkParams,
    seed: int,
    kept: Predictions | None = None,
) -> Measurements:
    """Time every variant, and run it over `texts` (split -> texts; latency is measured on `test`).

    Latency is that of one sentence at a time, from its text to its label, as it comes (`real`) and padded to
    `params.padded_length` (`padded`), `params.runs` times each after `params.warmups` untimed runs; every variant sees
    the same sentences. In `params.side_rounds` of the rounds alone: latency at each of `params.lengths` (that of the
    padded protocol is taken from there), and the same sentences in batches of each size.

    Args:
        variants: the reference first, with which the others are compared.
        kept: predictions of earlier runs, which are not made again; None scores everything.
    """
    tables: list[list[pd.DataFrame]] = [[], [], []]
    logits: dict[str, dict[str, np.ndarray]] = {}
    labels: dict[str, list[str]] = {}
    peaks: dict[str, float] = {}
    peak = int8_peak_gops(params.threads)
    planned = plan(variants, texts["test"], params, seed)
    cold = [*planned.cold_starts, *_further_cold_starts(variants, texts["test"], params, seed)]
    for number, group in enumerate(planned.groups):
        with _loaded(group, texts["test"][0], params, seed) as (workers, starts):
            cold += starts
            turns = timed_rounds(workers, texts["test"], params, seed, number * params.rounds)
            for table, rows in zip(tables, turns, strict=True):
                table.append(rows)
            for worker in tqdm(workers, desc="score", disable=None):
                if (name := worker.variant.name) not in logits:  # the reference is in each group
                    peaks[name] = worker.ask("peak_rss_mb")
                    labels[name] = worker.ask("labels")
                    logits[name] = _logits(worker, texts, len(labels[name]), kept)
    samples, lengths, throughput = (pd.concat(table, ignore_index=True) for table in tables)
    samples = samples.assign(disturbed=samples["cause"] != "")
    names = [variant.name for variant in variants]
    return Measurements(
        samples,
        lengths,
        throughput,
        pd.DataFrame(cold, columns=["variant", "s"]),
        {name: logits[name] for name in names},
        {name: labels[name] for name in names},
        {name: peaks[name] for name in names},
        params.batch_size,
        max(peak, int8_peak_gops(params.threads)),
        len(planned.groups),
    )


def _further_cold_starts(variants: list[Variant], texts: list[str], params: BenchmarkParams, seed: int) -> list[dict]:
    """Rows of `Measurements.cold_starts` beyond that of the worker itself: a process at a time, which ends again."""
    rng, rows = random.Random(seed), []
    for _ in tqdm(range(params.cold_starts - 1), desc="cold starts", disable=None):
        for variant in rng.sample(variants, len(variants)):
            worker = Worker(variant, params.threads)
            try:
                rows.append({"variant": variant.name, "s": worker.cold_start(texts[0])})
            finally:
                worker.close()
    return rows


@contextmanager
def _loaded(
    group: list[Variant], text: str, params: BenchmarkParams, seed: int
) -> Iterator[tuple[list[Worker], list[dict]]]:
    """The workers of a group, loaded, and the cold start of each.

    They start one at a time, in shuffled order, so that nothing runs beside a cold start (those that are loaded wait
    for their turn); all at once where no cold start is asked for.
    """
    workers: list[Worker] = []
    rows: list[dict] = []
    try:
        if params.cold_starts:
            order = random.Random(seed).sample(group, len(group))
            for variant in tqdm(order, desc="load", disable=None):
                workers.append(Worker(variant, params.threads))
                rows.append({"variant": variant.name, "s": workers[-1].cold_start(text)})
        else:
            for variant in group:
                workers.append(Worker(variant, params.threads))
            for worker in workers:
                worker.wait_until_loaded()
        yield sorted(workers, key=lambda worker: group.index(worker.variant)), rows
    finally:
        for worker in workers:
            worker.hang_up()
        for worker in workers:
            worker.close()


def _logits(
    worker: Worker, texts: dict[str, list[str]], labels: int, kept: Predictions | None
) -> dict[str, np.ndarray]:
    """Split -> logits [rows, labels], from the kept predictions where they are there."""
    logits = {}
    for split, rows in texts.items():
        found = kept.find(worker.variant, rows, labels) if kept else None
        if found is None:
            found = worker.ask("logits", rows)
            if kept:
                kept.keep(worker.variant, rows, found)
        logits[split] = found
    return logits
