"""The commands about a run's results: results, select, seeds."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from fincompress.core.errors import InputError


def results(
    write: Annotated[
        Path | None, typer.Option(help="Instead of printing: a Markdown file whose result markers are to be filled.")
    ] = None,
) -> None:
    """Print the results of the last run as tables, or write them into a document."""
    from fincompress.core.files import write_text
    from fincompress.report.documents import insert, report
    from fincompress.report.results import load_results

    if write is None:
        print(report(load_results()))
        return
    if not write.is_file():
        raise InputError(f"{write}: not found; name a Markdown file with result markers, such as README.md")
    document = insert(write.read_text(encoding="utf-8"), load_results(), str(write))
    write_text(write, document)


def select(
    max_latency_ms: Annotated[float | None, typer.Option(help="Of one sentence; see --latency, --percentile.")] = None,
    max_size_mb: Annotated[float | None, typer.Option(help="On disk.")] = None,
    max_f1_drop: Annotated[float | None, typer.Option(help="Macro F1 below the teacher's: 0.01 is a point.")] = None,
    max_memory_mb: Annotated[float | None, typer.Option(help="Peak memory of a serving process.")] = None,
    latency: Annotated[Literal["real", "padded"], typer.Option(help="Sentences as they come, or padded.")] = "real",
    percentile: Annotated[Literal["p50", "p95", "p99"], typer.Option(help="Of the latencies.")] = "p50",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,
    metrics: Annotated[Path, typer.Option(help="The folder of records.")] = Path("metrics"),
) -> None:
    """Name the best variant within a budget, by validation macro F1, or the limit that rules out all (exit code 1)."""
    from fincompress.core.params import current_pipeline
    from fincompress.core.variants import saved_folder
    from fincompress.report.results import load_metrics
    from fincompress.report.selection import budget, select

    records = load_metrics(metrics)
    key = {"real": "latency_ms", "padded": "latency_padded_ms"}[latency]
    limits = budget(records, max_latency_ms, max_size_mb, max_f1_drop, max_memory_mb, key, percentile)
    choice = select(records, limits, key, percentile)
    folder = saved_folder(choice.variant, current_pipeline()) if choice.variant else None
    if as_json:
        chosen = {"path": folder and str(folder), "metrics": records[choice.variant] if choice.variant else None}
        print(json.dumps({**vars(choice), **chosen}, indent=2))
    elif choice.variant:
        record = records[choice.variant]
        print(
            f"{choice.variant}: {record[key][percentile]:.3g} ms, {record['size_mb']:.3g} MB, "
            f"macro F1 {record['val_macro_f1']:.3f} on validation, {record['macro_f1']:.3f} on test"
        )
        print(choice.reason)
        print(folder or "Measured to compare with; the pipeline keeps no folder of it.")
    else:
        print(choice.reason)
    raise typer.Exit(0 if choice.variant else 1)


def seeds(n: Annotated[int, typer.Option("--n", help="Seeds, the one of params.yaml among them.")] = 5) -> None:
    """Repeat training over seeds: mean and standard deviation of every variant's macro F1."""
    from fincompress.benchmark.seeds import RECORD, repeat

    try:
        content = repeat(n)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    table = Table("variant", "validation macro F1", "test macro F1", title=f"{n} seeds, mean ± standard deviation")
    for name, spread in content["variants"].items():
        table.add_row(name, *(f"{spread[key]['mean']:.3f} ± {spread[key]['std']:.3f}" for key in spread))
    Console().print(table)
    print(f"{RECORD}: written; `dvc repro` puts it into the report")
