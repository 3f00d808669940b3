"""Which workers are loaded at once: as many as the free memory holds.

Where it holds all, there is one group. Where it may not, what each worker takes is measured, one process at a time, and
the variants are split into groups that fit, each of them with the reference: latencies of different groups are not
interleaved, so a variant is compared with the reference as it was in the variant's own group.
"""

import random
from dataclasses import dataclass

from tqdm import tqdm

from fincompress.benchmark.machine import SPARED, rough_need_mb
from fincompress.benchmark.rounds import batch_sizes
from fincompress.benchmark.workers import Worker
from fincompress.core.errors import InputError
from fincompress.core.files import folder_bytes
from fincompress.core.memory import available_memory_mb
from fincompress.core.sections import BenchmarkParams
from fincompress.core.variants import Variant

GROWTH = 1.1  # of a worker beyond what it took when it was measured


@dataclass(frozen=True)
class Plan:
    """Who is measured together."""

    groups: list[list[Variant]]
    cold_starts: list[dict]  # rows of `protocol.Measurements.cold_starts` that were seen while planning


def plan(variants: list[Variant], texts: list[str], params: BenchmarkParams, seed: int) -> Plan:
    """Split the variants into groups whose workers the free memory holds at once; says so where it is not one.

    Args:
        variants: the reference first, which is in each group.
        texts: some to find out with what a worker takes.

    Raises:
        InputError: a variant and the reference do not fit at once.
    """
    room = available_memory_mb() * (1 - SPARED)
    rough = {variant.name: rough_need_mb(variant.runtime, folder_bytes(variant.folder)) for variant in variants}
    if sum(rough.values()) <= room:
        return Plan([variants], [])
    print(f"benchmark: {room / 1e3:.1f} GB of memory may not hold all workers at once; measuring what they take")
    needs, cold_starts = _measured_needs(variants, texts, params, seed)
    groups = split(needs, variants[0].name, room)
    taken = sum(needs.values()) / 1e3
    if len(groups) > 1:
        print(
            f"benchmark: {len(groups)} groups, as all workers at once take {taken:.1f} GB and {room / 1e3:.1f} GB are "
            "free; latencies are interleaved within a group, and the reference is in each"
        )
    return Plan([[variant for variant in variants if variant.name in names] for names in groups], cold_starts)


def split(needs: dict[str, float], reference: str, room: float) -> list[set[str]]:
    """Groups of names whose needs fit into `room`, the largest first, the reference in each.

    Args:
        needs: name -> MB, the reference among them.

    Raises:
        InputError: one does not fit beside the reference.
    """
    groups: list[set[str]] = []
    others = sorted((name for name in needs if name != reference), key=lambda name: -needs[name])
    for name in others or [reference]:
        pair = {reference, name}
        if (needed := sum(needs[each] for each in pair)) > room:
            raise InputError(
                f"benchmark: {' and '.join(sorted(pair))} take {needed:.0f} MB of memory at once and {room:.0f} MB are "
                "free; end other programs, or leave the variant out of benchmark.variants (params.yaml)"
            )
        fitting = (group for group in groups if sum(needs[each] for each in group | pair) <= room)
        group = next(fitting, None)
        if group is None:
            groups.append(pair)
        else:
            group.add(name)
    return groups


def _measured_needs(
    variants: list[Variant], texts: list[str], params: BenchmarkParams, seed: int
) -> tuple[dict[str, float], list[dict]]:
    """Name -> MB that its worker takes once it has done each kind of request, and the cold starts seen on the way."""
    needs, cold_starts = {}, []
    longest = sorted(texts, key=len)[-max(batch_sizes(params)) :]
    for variant in tqdm(random.Random(seed).sample(variants, len(variants)), desc="measure memory", disable=None):
        worker = Worker(variant, params.threads)
        try:
            cold_starts.append({"variant": variant.name, "s": worker.cold_start(texts[0])})
            worker.ask("single", longest[:1], params.padded_length)
            worker.ask("batches", longest, max(batch_sizes(params)))
            needs[variant.name] = GROWTH * worker.ask("peak_rss_mb")
        finally:
            worker.close()
    return needs, cold_starts if params.cold_starts else []
