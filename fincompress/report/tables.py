"""A run's results in Markdown: a short table, the two full ones, and the sentences that go with them.

Documents take these blocks between markers that name them, and `insert` brings a document up to date:

    <!-- results: headline -->
    ...
    <!-- results: end -->
"""

import re
from collections.abc import Callable, Iterable
from statistics import fmean, geometric_mean

from fincompress.benchmark.significance import verdict
from fincompress.core.errors import InputError
from fincompress.core.registry import pipeline_of
from fincompress.core.runtimes import FLOOR, INT8_RUNTIMES, converted_name
from fincompress.core.variants import network_of, saved_names
from fincompress.report.results import Results, cost_per_million, pareto_front
from fincompress.report.selection import fastest_within

MARKER = re.compile(r"^<!-- results: (\w+) -->$", re.MULTILINE)
"""A line that begins a block, or ends it where it says `END`."""
END = "end"

Columns = dict[str, Callable[[Results, str], str]]
"""Title -> the text of a variant's cell."""


def _of(text: Callable[[dict], str]) -> Callable[[Results, str], str]:
    """A cell that depends only on the variant's record."""
    return lambda results, name: text(results.records[name])


COSTS: Columns = {
    "macro F1": _of(lambda record: f"{record['macro_f1']:.3f}"),
    "change [95 %]": _of(lambda record: change(record)),
    "parameters (M)": _of(lambda record: f"{record['parameters'] / 1e6:.2f}"),
    "size (MB)": _of(lambda record: f"{record['size_mb']:.1f}"),
    "real ms": _of(lambda record: figures(record["latency_ms"]["p50"])),
    "speed-up": _of(lambda record: times(record["speedup_real"])),
    "padded ms": _of(lambda record: figures(record["latency_padded_ms"]["p50"])),
    "padded speed-up": _of(lambda record: times(record["speedup"])),
    "by compression": _of(lambda record: times(record["compression_gain"])),
    "by runtime": _of(lambda record: times(record["runtime_gain"])),
    "sentences/s": _of(lambda record: f"{record['throughput_per_s']:,.0f}"),
    "cost of a million": lambda results, name: figures(
        cost_per_million(results.records[name], results.environment, results.params.price_per_core_hour)
    ),
    "cold start s": _of(lambda record: _or_dash(record["cold_start_s"], ".1f")),
    "peak RSS (MB)": _of(lambda record: f"{record['peak_rss_mb']:.0f}"),
    "Pareto": lambda results, name: "●" if name in pareto_front(results.records) else "",
}
"""What a variant keeps, and what it costs."""

BEHAVIOUR: Columns = {
    "verdict": lambda results, name: verdict(results.records[name]["macro_f1_change"], results.params.margin),
    "McNemar p": _of(lambda record: f"{record['mcnemar_p']:.2g}"),
    "agreement": _of(lambda record: f"{record['agreement']:.1%}"),
    "right → wrong": _of(lambda record: str(record["flips"]["right_to_wrong"])),
    "wrong → right": _of(lambda record: str(record["flips"]["wrong_to_right"])),
    "wrong → wrong": _of(lambda record: str(record["flips"]["wrong_to_wrong"])),
    "reversals": _of(lambda record: _or_dash(record["reversals"], "d")),
    "ECE": _of(lambda record: f"{record['ece']:.3f}"),
    "Brier": _of(lambda record: f"{record['brier']:.3f}"),
    "validation over seeds": lambda results, name: spread(results, name, "val_macro_f1"),
    "test over seeds": lambda results, name: spread(results, name, "macro_f1"),
}
"""Where a variant's predictions differ from the reference's, how well its confidence is calibrated, what is chance."""

HEADLINE_ROWS = 8
HEADLINE: Columns = {
    title: COSTS[title] for title in ("macro F1", "change [95 %]", "size (MB)", "real ms", "speed-up", "peak RSS (MB)")
}
"""The columns of the short table."""


def report(results: Results) -> str:
    """Both full tables and the notes that belong to them."""
    return "\n\n".join(BLOCKS[name](results) for name in ("costs", "behaviour", "notes"))


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
    """What the run achieved, in a few sentences about the fastest variant that loses no more than the margin."""
    records, reference, points = results.records, results.reference, 100 * results.params.margin
    best, margin = fastest_within(records, results.params.margin), f"{points:g} point{'s' * (points != 1)}"
    if best == reference:
        return f"No variant is faster than `{reference}` and loses at most {margin} of macro F1 to it on validation."
    own, whole = records[best], records[reference]
    value, low, high = (f"{100 * own['macro_f1_change'][key]:+z.1f}" for key in ("value", "low", "high"))
    text = (
        f"`{best}` is the fastest variant that loses at most {margin} of macro F1 to `{reference}` on "
        f"validation. Its files are {whole['size_mb'] / own['size_mb']:.1f} times smaller, it answers a single "
        f"sentence {own['speedup_real']:.1f} times as fast, and in batches it classifies "
        f"{own['throughput_per_s'] / whole['throughput_per_s']:.1f} times as many sentences per second. Its test macro "
        f"F1 differs by {value} points (95 % interval {low} to {high}), and {100 * (1 - own['agreement']):.0f} % of "
        "its predictions are not the same."
    )
    if best in results.spread and reference in results.spread:
        seeds = len(results.spread[best]["macro_f1"]["values"])
        scores = [spread(results, name, "macro_f1") for name in (best, reference)]
        text += f" Over {seeds} seeds its test macro F1 is {scores[0]}, against {scores[1]} for `{reference}`."
    return text


def notes(results: Results) -> str:
    """The default int8 runtime, latencies too close to rank, and scores by source where they need to be read apart."""
    default = default_int8(results.records)
    return "\n\n".join([*([default] if default else []), ties(results), *by_source(results)])


def markdown_table(results: Results, columns: Columns, variants: Iterable[str] | None = None) -> str:
    """A table with one row per variant; by default all of them."""
    lines = [f"| variant | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for name in results.records if variants is None else variants:
        lines.append(f"| `{name}` | {' | '.join(cell(results, name) for cell in columns.values())} |")
    return "\n".join(lines)


def ties(results: Results) -> str:
    """Which latencies at real lengths the machine was too noisy to tell apart, as a sentence."""
    order = list(results.ties)
    later = {name: [other for other in results.ties[name] if order.index(other) > order.index(name)] for name in order}
    alike = [f"{name} ≈ {', '.join(others)}" for name, others in later.items() if others]
    if not alike:
        return "The rounds tell all latencies at real lengths apart."
    return f"Too close at real lengths for the rounds to tell apart: {'; '.join(alike)}."


def change(record: dict) -> str:
    """Change of macro F1 against the reference in points, with its interval."""
    value, low, high = (f"{100 * record['macro_f1_change'][key]:+z.1f}" for key in ("value", "low", "high"))
    return f"{value} [{low}, {high}]"


def spread(results: Results, name: str, score: str) -> str:
    """Mean ± standard deviation of a score over seeds, or a dash."""
    if name not in results.spread:
        return "–"
    over = results.spread[name][score]
    return f"{over['mean']:.3f} ± {over['std']:.3f}"


def default_int8(records: dict[str, dict]) -> str | None:
    """Which int8 runtime to ship by default, and why, in a sentence.

    It is the fastest at real sentence lengths, by the geometric mean over the networks that were measured in all of
    them. The sentence also gives the difference in validation macro F1 from the next. None if no network was.
    """
    runtimes = {runtime.key: runtime.title for runtime in INT8_RUNTIMES}
    pairs = [
        {runtime.key: records[converted_name(name, runtime, "int8")] for runtime in INT8_RUNTIMES}
        for name in records
        if all(converted_name(name, runtime, "int8") in records for runtime in INT8_RUNTIMES)
    ]
    if not pairs:
        return None
    means = {key: geometric_mean([pair[key]["latency_ms"]["p50"] for pair in pairs]) for key in runtimes}
    best, other = sorted(means, key=lambda key: means[key])[:2]
    ratio = means[other] / means[best]
    wins = sum(pair[best]["latency_ms"]["p50"] < pair[other]["latency_ms"]["p50"] for pair in pairs)
    f1 = fmean(pair[best]["val_macro_f1"] - pair[other]["val_macro_f1"] for pair in pairs)
    several = f" for {wins} of {len(pairs)} networks" if len(pairs) > 1 else ""
    average = " on average" * bool(several)
    faster = f"faster than {runtimes[other]}{several}, {ratio:.1f} times{average}"
    speed = faster if ratio >= 1.05 else f"as fast as {runtimes[other]}{average}"
    return (
        f"Int8 ships in **{runtimes[best]}** by default: at real sentence lengths it is {speed}, at {f1:+z.3f} "
        "validation macro F1."
    )


def by_source(results: Results) -> list[str]:
    """Macro F1 by source as a table, and notes, if the scores have to be read source by source; otherwise nothing.

    That is the case if the teacher's checkpoint had seen a source before (`contamination`), if it already was a
    classifier (`published`: it gets a row of its own), or if out-of-domain sets were scored.
    """
    about, extra = results.models, results.breakdown.query("group == 'extra'")
    if not (about["contamination"] or about["published"] or len(extra)):
        return []
    part = results.breakdown.query("group in ['source', 'extra']")
    groups = part.drop_duplicates(["group", "value"])[["group", "value", "rows"]].itertuples(index=False)
    columns = {(group, value): count for group, value, count in groups}
    marks = {("source", source): " (seen before)" for source in about["contamination"]}
    marks |= {("extra", value): " (out of domain)" for value in extra["value"]}
    heads = [f"{key[1]}{marks.get(key, '')}, {count} rows" for key, count in columns.items()]
    lines = [f"| macro F1 | test | {' | '.join(heads)} |", f"|---|--:|{'--:|' * len(heads)}"]
    if about["published"]:
        cells = [about["published"]["macro_f1_by_source"].get(value) for _, value in columns]
        shown = ["–" if cell is None else f"{cell:.3f}" for cell in cells]
        name = f"`{about['teacher']['checkpoint']}` as published"
        lines.append(f"| {name} | {about['published']['macro_f1']:.3f} | {' | '.join(shown)} |")
    scored = part.set_index(["variant", "group", "value"])["f1"]
    for name, record in results.records.items():
        shown = [f"{scored[name, group, value]:.3f}" for group, value in columns]
        lines.append(f"| `{name}` | {record['macro_f1']:.3f} | {' | '.join(shown)} |")
    return ["\n".join(lines), *contamination_notes(about)]


def contamination_notes(about: dict) -> list[str]:
    """A sentence for each source that the teacher's checkpoint had seen before.

    Args:
        about: the content of metrics/about/models.json.
    """
    return [f"**Contaminated**: {source}. {reason}." for source, reason in about["contamination"].items()]


BLOCKS: dict[str, Callable[[Results], str]] = {
    "summary": summary,
    "headline": lambda results: markdown_table(results, HEADLINE, headline_variants(results.records)),
    "costs": lambda results: markdown_table(results, COSTS),
    "behaviour": lambda results: markdown_table(results, BEHAVIOUR),
    "notes": notes,
}
"""Name in a marker -> what stands between it and the end marker."""


def insert(document: str, results: Results, source: str = "document") -> str:
    """`document` with every block between result markers up to date.

    Args:
        source: what the document is called in errors.

    Raises:
        InputError: there are no markers, one has no end, or one names an unknown block.
    """
    known = ", ".join(BLOCKS)
    parts = MARKER.split(document)
    texts, names = parts[::2], parts[1::2]
    if not names:
        raise InputError(
            f"{source}: no result markers; put `<!-- results: NAME -->` and `<!-- results: {END} -->` around the place "
            f"for a block, NAME being one of {known}"
        )
    filled = texts[0]
    for index in range(0, len(names), 2):
        name, closing = names[index], names[index + 1 : index + 2]
        if name not in BLOCKS:
            raise InputError(f"{source}: `<!-- results: {name} -->` does not begin a block; expected one of {known}")
        if closing != [END]:
            raise InputError(f"{source}: `<!-- results: {name} -->` has no `<!-- results: {END} -->` after it")
        filled += f"<!-- results: {name} -->\n{BLOCKS[name](results)}\n<!-- results: {END} -->{texts[index + 2]}"
    return filled


def figures(value: float) -> str:
    """A time or an amount of money to two or three significant figures."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def times(factor: float | None) -> str:
    """A ratio, or a dash."""
    return "–" if factor is None else f"{factor:.0f}×" if factor >= 100 else f"{factor:.2f}×"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
