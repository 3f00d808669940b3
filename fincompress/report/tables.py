"""What a run says, as tables in Markdown: what each variant keeps and costs, what it does otherwise, by source."""

from collections.abc import Callable
from statistics import fmean, geometric_mean

from fincompress.benchmark.significance import verdict
from fincompress.core.errors import InputError
from fincompress.core.runtimes import INT8_RUNTIMES, converted_name
from fincompress.report.results import Results, cost_per_million, pareto_front

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"

Columns = dict[str, Callable[[Results, str], str]]
"""Title -> the text of a variant's cell."""


def _of(text: Callable[[dict], str]) -> Callable[[Results, str], str]:
    """A cell that a variant's record alone decides."""
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
"""What a variant does otherwise than the reference, how sure it is, and how much is chance."""


def report(results: Results) -> str:
    """What the README shows: both tables, the default runtime, and the scores by source where they need it."""
    tables = [markdown_table(results, COSTS), markdown_table(results, BEHAVIOUR)]
    default = default_int8(results.records)
    return "\n\n".join([*tables, *([default] if default else []), ties(results), *by_source(results)])


def markdown_table(results: Results, columns: Columns) -> str:
    """A row a variant."""
    lines = [f"| variant | {' | '.join(columns)} |", f"|---|{'--:|' * len(columns)}"]
    for name in results.records:
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
    """Which int8 runtime is to be shipped unless there is a reason for another, and why, in a sentence.

    It is the fastest at real sentence lengths, by the geometric mean over the networks that were measured in all of
    them; the difference in validation macro F1 to the next is told beside it. None where there is no such network.
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
    best, other = sorted(means, key=means.get)[:2]
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
    """Macro F1 by source as a table, and notes, where some of the scores need reading apart; else nothing.

    That is so where the teacher's checkpoint had seen a source before (`contamination`), where it already was a
    classifier (`published`: a row for it as it came), or where sets out of domain were scored.
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


def insert(document: str, content: str) -> str:
    """`document` with what stands between its two result markers replaced by `content`."""
    before, marker, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not marker or not end:
        raise InputError(f"no `{BEGIN}` … `{END}` to write the results between")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def figures(value: float) -> str:
    """A time or a sum of money to two or three figures."""
    if value < 0.001:
        return "< 0.001"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}" if value >= 0.1 else f"{value:.2g}"


def times(factor: float | None) -> str:
    """A ratio, or a dash."""
    return "–" if factor is None else f"{factor:.0f}×" if factor >= 100 else f"{factor:.2f}×"


def _or_dash(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
