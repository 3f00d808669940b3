"""The results table, from metrics/ and nothing else: `python -m fincompress.results [--write README.md]`."""

import argparse
from pathlib import Path

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
        "| variant | macro F1 | accuracy | parameters (M) | size (MB) | real ms | padded ms | sentences/s "
        "| speed-up | by compression | by runtime | peak RSS (MB) | Pareto |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|:-:|",
    ]
    for name, record in records.items():
        cells = [
            f"`{name}`",
            f"{record['macro_f1']:.3f}",
            f"{record['accuracy']:.3f}",
            f"{record['parameters'] / 1e6:.2f}",
            f"{record['size_mb']:.1f}",
            _figures(record["latency_ms"]["p50"]),
            _figures(record["latency_padded_ms"]["p50"]),
            f"{record['throughput_per_s']:,.0f}",
            *(_times(record[key]) for key in ("speedup", "compression_gain", "runtime_gain")),
            f"{record['peak_rss_mb']:.0f}",
            "●" if name in front else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def insert(document: str, table: str) -> str:
    """`document` with what stands between its two result markers replaced by `table`."""
    before, marker, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not marker or not end:
        raise InputError(f"no `{BEGIN}` … `{END}` to write the table between")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def _figures(ms: float) -> str:
    return f"{ms:.1f}" if ms >= 10 else f"{ms:.2f}"


def _times(factor: float | None) -> str:
    return "–" if factor is None else f"{factor:.0f}×" if factor >= 100 else f"{factor:.2f}×"


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the results table, or write it into a document.")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file with result markers")
    options = parser.parse_args()
    try:
        table = markdown_table(load_metrics())
        if options.write is None:
            print(table)
            return
        with atomic_file(options.write) as path:
            path.write_text(insert(options.write.read_text(encoding="utf-8"), table), encoding="utf-8")
    except InputError as error:
        parser.exit(2, f"error: {error}\n")


if __name__ == "__main__":
    main()
