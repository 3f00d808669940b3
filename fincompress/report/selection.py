"""The best variant within a budget, or the limit that leaves none.

Like everything that is chosen here, it is chosen by macro F1 on the validation split; test scores are only reported.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fincompress.core.errors import InputError
from fincompress.core.variants import reference_of


@dataclass(frozen=True)
class Limit:
    """What a variant must not exceed."""

    option: str  # as given: `--max-size-mb`
    bound: float
    unit: str
    least: str  # what to call the variant with the lowest value: `smallest`
    value: Callable[[dict], float]  # of a record

    def allows(self, record: dict) -> bool:
        """Whether the record is within the bound, ignoring rounding errors."""
        return self.value(record) <= self.bound + 1e-9

    def __str__(self) -> str:
        return f"{self.option} {self.bound:g}"


@dataclass(frozen=True)
class Choice:
    """What `select` found."""

    variant: str | None
    reason: str
    within: list[str]  # variants within the budget, best first
    ruled_out_by: list[str] = field(default_factory=list)  # limits that no variant meets
    without: dict[str, str] = field(default_factory=dict)  # limit -> what would be chosen without it


def budget(
    records: dict[str, dict],
    latency_ms: float | None = None,
    size_mb: float | None = None,
    f1_drop: float | None = None,
    memory_mb: float | None = None,
    latency: str = "latency_ms",
    percentile: str = "p50",
) -> list[Limit]:
    """The limits that were given.

    Args:
        records: of all variants, for the teacher's macro F1.
        f1_drop: how far validation macro F1 may be below the teacher's.
        latency: `latency_ms` (real lengths) or `latency_padded_ms`.

    Raises:
        InputError: a limit is not a finite number.
    """
    teacher = value_of(records, reference_of(records), "val_macro_f1")
    limits = [
        ("--max-latency-ms", latency_ms, "ms", "fastest", lambda record: record[latency][percentile]),
        ("--max-size-mb", size_mb, "MB", "smallest", lambda record: record["size_mb"]),
        ("--max-f1-drop", f1_drop, "macro F1 lost", "best", lambda record: teacher - record["val_macro_f1"]),
        ("--max-memory-mb", memory_mb, "MB", "leanest", lambda record: record["peak_rss_mb"]),
    ]
    given = [
        Limit(option, bound, unit, least, value) for option, bound, unit, least, value in limits if bound is not None
    ]
    for limit in given:
        if not math.isfinite(limit.bound):
            raise InputError(f"{limit}: not a number to compare with")
    return given


def value_of(records: dict[str, dict], name: str, key: str) -> float:
    """A number of a record: `size_mb`, or `latency_ms.p50`.

    Raises:
        InputError: the record lacks it.
    """
    value: Any = records[name]
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise InputError(f"metrics/variants/{name}.json: no number under `{key}`; `dvc repro benchmark` writes it")
    return value


def select(
    records: dict[str, dict], limits: list[Limit], latency: str = "latency_ms", percentile: str = "p50"
) -> Choice:
    """The variant with the best validation macro F1 that all limits allow; if equal, the faster, then the smaller.

    Args:
        records: variant -> its record, including the teacher's.

    Raises:
        InputError: a record lacks a number that is compared.
    """
    for name in records:
        for key in ("val_macro_f1", f"{latency}.{percentile}", "size_mb", "peak_rss_mb"):
            value_of(records, name, key)

    def rank(name: str) -> tuple:
        record = records[name]
        return -record["val_macro_f1"], record[latency][percentile], record["size_mb"], name

    def best_first(limits: list[Limit]) -> list[str]:
        return sorted((name for name in records if all(limit.allows(records[name]) for limit in limits)), key=rank)

    within = best_first(limits)
    if within:
        return Choice(within[0], _why(records, within, limits, latency, percentile), within)
    alone = [limit for limit in limits if not best_first([limit])]
    if alone:
        reason = " ".join(_unmet(records, limit) for limit in alone)
        return Choice(None, reason, [], [limit.option for limit in alone])
    others = {limit.option: best_first([other for other in limits if other is not limit]) for limit in limits}
    without = {option: names[0] for option, names in others.items() if names}
    reason = "Each limit can be met, but not all at once."
    for limit in limits:
        if limit.option in without:
            name = without[limit.option]
            reason += f" Without {limit} it would be {name} ({limit.value(records[name]):.3g} {limit.unit})."
    return Choice(None, reason, [], [], without)


def fastest_within(records: dict[str, dict], f1_drop: float) -> str:
    """The fastest variant at real lengths that loses at most `f1_drop` of the teacher's validation macro F1."""
    (limit,) = budget(records, f1_drop=f1_drop)
    allowed = [name for name, record in records.items() if limit.allows(record)]
    return min(allowed, key=lambda name: (records[name]["latency_ms"]["p50"], name))


def _why(records: dict[str, dict], within: list[str], limits: list[Limit], latency: str, percentile: str) -> str:
    name = within[0]
    own = records[name]
    bounds = ", ".join(map(str, limits)) or "no limit"
    reason = (
        f"The best validation macro F1 ({own['val_macro_f1']:.3f}) of {len(within)} of {len(records)} variants within "
    )
    reason += f"{bounds}."
    equal = [other for other in within[1:] if records[other]["val_macro_f1"] == own["val_macro_f1"]]
    if equal:
        reason += f" {', '.join(equal)} {'is' if len(equal) == 1 else 'are'} as good, and slower or larger."
    faster = [other for other in within if records[other][latency][percentile] < own[latency][percentile]]
    if faster:
        other = faster[0]
        reason += (
            f" Next among the faster: {other}, {own['val_macro_f1'] - records[other]['val_macro_f1']:.3f} lower, "
            f"{records[other][latency][percentile]:.3g} ms instead of {own[latency][percentile]:.3g}."
        )
    return reason


def _unmet(records: dict[str, dict], limit: Limit) -> str:
    name = min(records, key=lambda name: (limit.value(records[name]), name))
    return f"{limit} rules out all: the {limit.least}, {name}, is at {limit.value(records[name]):.3g} {limit.unit}."
