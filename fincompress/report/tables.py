"""A run's results in Markdown: the two full tables, and the sentences that go with them."""

from collections.abc import Callable, Iterable
from statistics import fmean, geometric_mean

from fincompress.benchmark.significance import verdict
from fincompress.core.runtimes import INT8_RUNTIMES, converted_name
from fincompress.report.results import Results, cost_per_million, pareto_front

Columns = dict[str, Callable[[Results, str], str]]
"""Title -> the text of a variant's cell."""


def _of(text: Callable[[dict], str]) -> Callable[[Results, str], str]:
    """A cell that depends only on the variant's record."""
    return lambda results, name: text(results.records[name])


def _unless_reference(text: Callable[[Results, str], str]) -> Callable[[Results, str], str]:
    """A cell that compares with the reference, and so has a dash for the reference itself."""
    return lambda results, name: "–" if name == results.reference else text(results, name)


COSTS: Columns = {
    "validation F1": _of(lambda record: f"{record['val_macro_f1']:.3f}"),
    "macro F1": _of(lambda record: f"{record['macro_f1']:.3f}"),
    "change [95 %]": _unless_reference(_of(lambda record: change(record["macro_f1_change"]))),
    "parameters (M)": _of(lambda record: f"{record['parameters'] / 1e6:.2f}"),
    "size (MB)": _of(lambda record: f"{record['size_mb']:.1f}"),
    "ms": _of(lambda record: figures(record["latency_ms"]["p50"])),
    "forward ms": _of(lambda record: figures(record["forward_ms"]["p50"])),
    "speed-up [95 %]": _unless_reference(_of(lambda record: ratio(record["speedup"]))),
    "by compression": _of(lambda record: times(record["compression_gain"])),
    "by runtime": _of(lambda record: times(record["runtime_gain"])),
    "padded ms": _of(lambda record: figures(record["latency_padded_ms"]["p50"])),
    "padded speed-up": _of(lambda record: times(record["speedup_padded"])),
    "% of int8 peak": _of(lambda record: _or_dash(record["int8_peak_share"], ".0%")),
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
    "verdict": _unless_reference(
        lambda results, name: verdict(results.records[name]["macro_f1_change"], results.params.margin)
    ),
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
    "test change over seeds [95 %]": lambda results, name: change_over_seeds(results, name),
}
"""Where a variant's predictions differ from the reference's, how well its confidence is calibrated, what is chance."""


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
    """Which latencies at real lengths the machine was too noisy to tell from the best one, as a sentence."""
    if results.ties is None:
        return "The rounds are too few to tell latencies apart by who is the faster how often; the intervals say more."
    if not results.ties:
        return f"The rounds tell the latency of `{results.best}` at real lengths from all others."
    names = ", ".join(f"`{name}`" for name in results.ties)
    return f"Too close to the latency of `{results.best}` at real lengths for the rounds to tell apart: {names}."


def points(value: float) -> str:
    """A difference in macro F1 in points, signed, with a second digit where one would show as zero."""
    text = f"{100 * value:+.1f}"
    return f"{100 * value:+z.2f}" if float(text) == 0 and value else text


def change(interval: dict[str, float]) -> str:
    """A difference in macro F1 in points, with its interval.

    Args:
        interval: `value`, `low`, `high`.
    """
    return f"{points(interval['value'])} [{points(interval['low'])}, {points(interval['high'])}]"


def spread(results: Results, name: str, score: str) -> str:
    """Mean ± standard deviation of a score over seeds, or a dash."""
    if name not in results.spread:
        return "–"
    over = results.spread[name][score]
    return f"{over['mean']:.3f} ± {over['std']:.3f}"


def change_over_seeds(results: Results, name: str) -> str:
    """The mean change in test macro F1 against the reference of the same seed, with its interval, or a dash."""
    over = results.spread.get(name, {}).get("macro_f1", {})
    return change(over["change"]) if "change" in over else "–"


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


def figures(value: float) -> str:
    """A time or an amount of money to two or three significant figures."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def times(ratio: dict[str, float] | None) -> str:
    """The value of a ratio, or a dash."""
    return "–" if ratio is None else f"{_significant(ratio['value'])}×"


def ratio(interval: dict[str, float]) -> str:
    """A ratio with its interval."""
    return f"{times(interval)} [{_significant(interval['low'])}, {_significant(interval['high'])}]"


def _significant(factor: float) -> str:
    return f"{factor:.0f}" if factor >= 100 else f"{factor:.1f}" if factor >= 10 else f"{factor:.2f}"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
