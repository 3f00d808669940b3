"""What a run achieved: one variant with all its figures, the steps that lead to it, and the short table."""

import math
from itertools import pairwise

from fincompress.core.registry import pipeline_of
from fincompress.core.runtimes import FLOOR, Runtime, converted_name
from fincompress.core.variants import network_of, runtime_of_variant, saved_names
from fincompress.report.results import Results, pareto_front
from fincompress.report.tables import COSTS, Columns, change, figures, markdown_table, points, ratio

HEADLINE_ROWS = 8
HEADLINE: Columns = {
    title: COSTS[title]
    for title in ("macro F1", "change [95 %]", "size (MB)", "ms", "speed-up [95 %]", "peak RSS (MB)")
}
"""The columns of the short table."""


def headline(results: Results) -> str:
    """The short table."""
    return markdown_table(results, HEADLINE, headline_variants(results.records))


def headline_variants(records: dict[str, dict]) -> list[str]:
    """The rows of the short table: the reference, the floor, and each network in the fastest form that is kept.

    Where those are more than `HEADLINE_ROWS`, the ones on the Pareto front go first, then the best on validation.
    """
    pipeline = pipeline_of(records)
    fastest: dict[str, str] = {}
    kept = [name for name in saved_names(pipeline) if name in records]
    for name in sorted(kept, key=lambda name: records[name]["latency_ms"]["p50"]):
        fastest.setdefault(network_of(name), name)
    fixed = {pipeline.reference, FLOOR} & records.keys()
    front = pareto_front(records)
    others = [name for name in fastest.values() if name not in fixed]
    others.sort(key=lambda name: (name not in front, -records[name]["val_macro_f1"]))
    chosen = {*fixed, *others[: HEADLINE_ROWS - len(fixed)]}
    return [name for name in records if name in chosen]


def summary(results: Results) -> str:
    """What the run achieved, in a few sentences that are all about the best variant."""
    reference, best, percent = results.reference, results.best, 100 * results.params.margin
    margin = f"{percent:g} point{'s' * (percent != 1)}"
    if best == reference:
        return f"No variant is faster than `{reference}` and loses at most {margin} of macro F1 to it on validation."
    own, whole = results.records[best], results.records[reference]
    text = (
        f"`{best}` is the fastest variant that loses at most {margin} of macro F1 to `{reference}` on validation. From "
        f"a sentence to its label it takes {figures(own['latency_ms']['p50'])} ms, {_with_words(own['speedup'])} as "
        f"fast; in batches it classifies {own['throughput_per_s']:,.0f} sentences a second, "
        f"{own['throughput_per_s'] / whole['throughput_per_s']:.1f} times as many. Its files take "
        f"{own['size_mb']:.1f} MB, {whole['size_mb'] / own['size_mb']:.1f} times less. Its test macro F1 is "
        f"{own['macro_f1']:.3f}, a change of {change(own['macro_f1_change'])} points, and "
        f"{100 * (1 - own['agreement']):.0f} % of its predictions are not those of `{reference}`."
    )
    over = results.spread.get(best, {}).get("macro_f1", {})
    if "change" in over:
        text += f" Over {len(over['values'])} seeds the change is {change(over['change'])} points on average."
    return text + " Brackets hold 95 % intervals."


def _with_words(speedup: dict[str, float]) -> str:
    value, _, interval = ratio(speedup).partition("×")
    return f"{value}{interval} times"


def ladder_variants(results: Results) -> dict[str, str]:
    """The steps that were measured, from the reference to the best variant and on to the smallest of its runtime.

    Returns:
        variant -> what is new in it.
    """
    reference, best = results.reference, results.best
    runtime = runtime_of_variant(best)
    steps = {reference: "fp32 in PyTorch"}
    if runtime.to_fp32:
        steps[converted_name(reference, runtime, "fp32")] = f"in {runtime.title}"
        steps[converted_name(reference, runtime, "int8")] = "in int8"
    steps.setdefault(best, f"the network of `{network_of(best)}`")
    if best != reference and (smallest := _smallest(results.records, runtime)):
        steps.setdefault(smallest, f"the network of `{network_of(smallest)}`, the smallest")
    return {name: what for name, what in steps.items() if name in results.records}


def _smallest(records: dict[str, dict], runtime: Runtime) -> str | None:
    """The smallest of the variants that are kept for a runtime in int8, if it has any."""
    kept = [name for name in saved_names(pipeline_of(records)) if name in records and runtime.to_int8]
    same = [name for name in kept if runtime_of_variant(name) == runtime]
    return min(same, key=lambda name: records[name]["size_mb"], default=None)


def ladder(results: Results) -> str:
    """The steps of `ladder_variants` as a table, each with what it adds, and which adds most."""
    steps = ladder_variants(results)
    lines = [
        "| step | macro F1 | size (MB) | ms | × smaller | × faster | points | × smaller so far | × faster so far |",
        "|---|" + "--:|" * 8,
    ]
    names = list(steps)
    for place, name in enumerate(names):
        own = results.records[name]
        cells = [f"{own['macro_f1']:.3f}", f"{own['size_mb']:.1f}", figures(own["latency_ms"]["p50"])]
        if place:
            before = results.records[names[place - 1]]
            size, speed = _gains(results, names[place - 1], name)
            lost = points(own["macro_f1"] - before["macro_f1"])
            cells += [f"{size:.2f}", f"{speed:.2f}", lost, *(f"{gain:.1f}" for gain in _gains(results, names[0], name))]
        else:
            cells += ["–"] * 5
        lines.append(f"| `{name}`: {steps[name]} | {' | '.join(cells)} |")
    return "\n".join(lines) + "".join(f"\n\n{sentence}" for sentence in _shares(results, steps))


def _gains(results: Results, before: str, name: str) -> tuple[float, float]:
    """How many times smaller, and how many times faster, a variant is than another."""
    first, second = results.records[before], results.records[name]
    return first["size_mb"] / second["size_mb"], second["speedup"]["value"] / first["speedup"]["value"]


def _shares(results: Results, steps: dict[str, str]) -> list[str]:
    """A sentence on which step brings how much of the whole, on a log scale; none where there is only one."""
    names = list(steps)
    if len(names) < 3:
        return []
    words = []
    for which, title in enumerate(("size", "speed")):
        whole = math.log(_gains(results, names[0], names[-1])[which])
        parts = [
            f"{100 * math.log(_gains(results, before, name)[which]) / whole:z.0f} % by `{name}`"
            for before, name in pairwise(names)
        ]
        words.append(f"of the gain in {title}, {', '.join(parts)}")
    return [f"What each step brings, on a log scale: {'; '.join(words)}."]
