"""The results table, from metrics/ and plots/tables/: `python -m fincompress.results [--write README.md]`."""

import argparse
from pathlib import Path
from statistics import fmean, geometric_mean

import pandas as pd

from fincompress.errors import InputError
from fincompress.files import atomic_file, read_json

BEGIN, END = "<!-- results: begin -->", "<!-- results: end -->"


def load_metrics(folder: Path = Path("metrics")) -> dict[str, dict]:
    """Variant -> its record, the teacher first, then from the best macro F1 down."""
    records = {path.stem: read_json(path) for path in folder.glob("*.json")}
    if "teacher" not in records:
        raise InputError(f"{folder}/teacher.json: not found; `dvc repro benchmark` writes it")
    return dict(sorted(records.items(), key=lambda item: (item[0] != "teacher", -item[1]["macro_f1"], item[0])))


def pareto_front(records: dict[str, dict], latency: str = "latency_ms") -> list[str]:
    """Variants that no other beats in both macro F1 and median latency, fastest first."""
    front, best = [], float("-inf")
    for name, record in sorted(records.items(), key=lambda item: (item[1][latency]["p50"], -item[1]["macro_f1"])):
        if record["macro_f1"] > best:
            front.append(name)
            best = record["macro_f1"]
    return front


def markdown_table(records: dict[str, dict]) -> str:
    """The results as a Markdown table, a row a variant."""
    front = pareto_front(records)
    lines = [
        "| variant | macro F1 | accuracy | parameters (M) | size (MB) | real ms | speed-up | padded ms | speed-up "
        "| by compression | by runtime | sentences/s | peak RSS (MB) | Pareto |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|:-:|",
    ]
    for name, record in records.items():
        cells = [
            f"`{name}`",
            f"{record['macro_f1']:.3f}",
            f"{record['accuracy']:.3f}",
            f"{record['parameters'] / 1e6:.2f}",
            f"{record['size_mb']:.1f}",
            _figures(record["latency_ms"]["p50"]),
            _times(record["speedup_real"]),
            _figures(record["latency_padded_ms"]["p50"]),
            *(_times(record[key]) for key in ("speedup", "compression_gain", "runtime_gain")),
            f"{record['throughput_per_s']:,.0f}",
            f"{record['peak_rss_mb']:.0f}",
            "●" if name in front else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def default_int8(records: dict[str, dict]) -> str:
    """Which of the two int8 runtimes is to be shipped unless there is a reason for the other, and why, in a sentence.

    It is the faster one at real sentence lengths, by the geometric mean over all networks that were measured in both;
    the difference in validation macro F1 is told beside it.
    """
    runtimes = {"ov": "OpenVINO", "ort": "ONNX Runtime"}
    pairs = [
        {key: records[f"{name}_{key}_int8"] for key in runtimes}
        for name in records
        if all(f"{name}_{key}_int8" in records for key in runtimes)
    ]
    if not pairs:
        raise InputError("metrics: no network with both an `_ov_int8` and an `_ort_int8` record; run `dvc repro`")
    ratio = geometric_mean([pair["ov"]["latency_ms"]["p50"] / pair["ort"]["latency_ms"]["p50"] for pair in pairs])
    best, other = ("ort", "ov") if ratio >= 1 else ("ov", "ort")
    wins = sum(pair[best]["latency_ms"]["p50"] < pair[other]["latency_ms"]["p50"] for pair in pairs)
    f1 = fmean(pair[best]["val_macro_f1"] - pair[other]["val_macro_f1"] for pair in pairs)
    return (
        f"Int8 ships in **{runtimes[best]}** by default: at real sentence lengths it is faster than {runtimes[other]} "
        f"for {wins} of {len(pairs)} networks, {max(ratio, 1 / ratio):.1f} times on average, at {f1:+.3f} validation "
        "macro F1."
    )


def report(records: dict[str, dict]) -> str:
    """What the README shows: the table, and the default."""
    return f"{markdown_table(records)}\n\n{default_int8(records)}"


def by_source(records: dict[str, dict], about: dict, breakdown: pd.DataFrame) -> str:
    """Macro F1 by source, where some of the scores need reading apart; else nothing.

    That is so where the teacher's checkpoint had seen a source before (`contamination`), where it already was a
    classifier (`published`: a row for it as it came), or where sets out of domain were scored.

    Args:
        about: the content of metrics/about/models.json.
        breakdown: that of plots/tables/breakdown.csv.
    """
    extra = breakdown.query("group == 'extra'")
    if not (about["contamination"] or about["published"] or len(extra)):
        return ""
    part = breakdown.query("group in ['source', 'extra']")
    rows = part.drop_duplicates(["group", "value"])[["group", "value", "rows"]].itertuples(index=False)
    columns = {(group, value): count for group, value, count in rows}
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
    for name, record in records.items():
        shown = [f"{scored[name, group, value]:.3f}" for group, value in columns]
        lines.append(f"| `{name}` | {record['macro_f1']:.3f} | {' | '.join(shown)} |")
    notes = [f"**Contaminated**: {source}. {reason}." for source, reason in about["contamination"].items()]
    return "\n".join(["", "", *lines, *(f"\n{note}" for note in notes)])


def insert(document: str, content: str) -> str:
    """`document` with what stands between its two result markers replaced by `content`."""
    before, marker, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not marker or not end:
        raise InputError(f"no `{BEGIN}` … `{END}` to write the results between")
    return f"{before}{BEGIN}\n{content}\n{END}{after}"


def _figures(ms: float) -> str:
    return f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _times(factor: float | None) -> str:
    return "–" if factor is None else f"{factor:.0f}×" if factor >= 100 else f"{factor:.2f}×"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the results table, or write it into a document.")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with result markers")
    options = parser.parse_args()
    try:
        records = load_metrics()
        content = report(records) + by_source(
            records, read_json(Path("metrics/about/models.json")), pd.read_csv("plots/tables/breakdown.csv")
        )
        if options.write is None:
            print(content)
            return
        with atomic_file(options.write) as path:
            path.write_text(insert(options.write.read_text(encoding="utf-8"), content), encoding="utf-8")
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
