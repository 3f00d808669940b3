"""The command `fincompress`: what people do beside running the pipeline, which is `dvc`'s part."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fincompress.errors import InputError

if TYPE_CHECKING:
    from fincompress.cluster import Scoring

SHIPPED = Path("models/ptq/ikd_ort_int8")
DEMO_COLUMNS = ("macro F1", "change [95 %]", "size (MB)", "real ms", "speed-up", "sentences/s", "peak RSS (MB)")

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
remote_app = typer.Typer(no_args_is_help=True, help="Where checkpoints are kept: `dvc push` and `dvc pull` go there.")
app.add_typer(remote_app, name="remote")


Runtime = Literal["torch", "torch_int8", "onnxruntime", "openvino", "bag_of_words"]


@app.command()
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, the lines of standard input.")] = None,
    model: Annotated[Path, typer.Option(help="A model folder, of any format.")] = SHIPPED,
    runtime: Annotated[Runtime | None, typer.Option(help="Without it, the one that the folder is for.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Without it, one a core.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that are classified together.")] = 32,
    source: Annotated[
        Path | None, typer.Option("--input", help="A .csv, .tsv, .jsonl or .parquet file, or a folder of the last.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--output", help="What to write its rows to, scored.")] = None,
    text_column: Annotated[str, typer.Option(help="The column of --input that holds the texts.")] = "text",
    engine: Annotated[Literal["local", "ray"], typer.Option(help="What scores a folder.")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Processes of --engine ray, of --threads each.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with all probabilities.")] = False,
) -> None:
    """Print the label of each text and its probability, or score the rows of a file or a folder into another."""
    from fincompress.serving import load_classifier

    if (source is None) != (target is None):
        raise InputError("--input and --output go together: the file to read and the one to write")
    if source is not None and texts:
        raise InputError("give texts or --input, not both")
    if source is not None:
        from fincompress.cluster import Scoring

        _score(Scoring(str(model), runtime, threads, text_column, batch_size), source, target, engine, workers)
        return
    texts = _given(texts)
    for prediction in load_classifier(model, runtime, threads)(texts, batch_size):
        if as_json:
            print(json.dumps(vars(prediction), ensure_ascii=False))
        else:
            print(f"{prediction.label}\t{prediction.confidence:.3f}\t{prediction.text}")


def _given(texts: list[str] | None) -> list[str]:
    """The arguments, or else the lines of standard input."""
    texts = texts or [line.strip() for line in sys.stdin if line.strip()]
    if not texts:
        raise InputError("no text: give some as arguments, or a line each on standard input")
    return texts


def _score(scoring: "Scoring", source: Path, target: Path, engine: str, workers: int) -> None:
    """Score a file, or a folder of them, and say how long it took."""
    from fincompress.bulk import score_file
    from fincompress.cluster import score_folder
    from fincompress.serving import load_classifier

    if engine != "local" and not source.is_dir():
        raise InputError(f"{source}: --engine {engine} scores a folder of .parquet files")
    start = time.perf_counter()
    try:
        if source.is_dir():
            count = score_folder(scoring, source, target, engine, workers)
        else:
            classifier = load_classifier(scoring.model, scoring.runtime, scoring.threads)
            count = score_file(classifier, source, target, scoring.text_column, scoring.batch_size)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - start
    print(f"{target}: {count} rows in {seconds:.1f} s, {count / seconds:.0f} a second", file=sys.stderr)


@app.command()
def compare(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, the lines of standard input.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A variant's name or a model folder; may be given several times.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Without it, one a core.")] = None,
) -> None:
    """Ask several models the same: the label of each text, its probability, and the latency, side by side."""
    from fincompress.comparison import compare as ask
    from fincompress.variants import saved_folder

    texts = _given(texts)
    names = model or ["teacher", "kd", "ikd_ort_int8"]
    folders = {name: Path(name) if Path(name).is_dir() else saved_folder(name) for name in names}
    if unknown := [name for name, folder in folders.items() if folder is None]:
        raise InputError(f"{', '.join(unknown)}: neither a model folder nor a variant that the pipeline keeps")
    answers = ask(folders, texts, threads)
    table = Table("text", *(f"{answer.model}\n{answer.latency_ms:.1f} ms" for answer in answers), show_lines=True)
    for row, text in enumerate(texts):
        said = [answer.predictions[row] for answer in answers]
        styles = ["" if own.label == said[0].label else "bold" for own in said]
        cells = (Text(f"{own.label} {own.confidence:.2f}", style) for own, style in zip(said, styles, strict=True))
        table.add_row(Text(text), *cells)
    Console().print(table)
    same = sum(len({answer.predictions[row].label for answer in answers}) == 1 for row in range(len(texts)))
    print(f"{same} of {len(texts)} texts get the same label from all; others than {answers[0].model}'s are in bold")


@app.command()
def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    kind: Annotated[Literal["onnx", "openvino", "torch"], typer.Option("--format", help="Of the new folder.")] = "onnx",
) -> None:
    """Write a model as a folder that works alone, with tokenizer and card, and check it against its source."""
    from fincompress.handover import export as hand_over

    done = hand_over(model, kind, out)
    print(f"{done.folder}: {kind}; logits of {done.texts} sentences differ by at most {done.difference:.2g}")


@app.command()
def demo(
    model: Annotated[str | None, typer.Option(help="The variant or model folder that is shown first.")] = None,
    host: Annotated[str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.")] = 7860,
) -> None:
    """Open the side-by-side demo in the browser: the teacher against any variant."""
    from fincompress.demo import Duel, build
    from fincompress.results import load_results
    from fincompress.tables import COSTS
    from fincompress.variants import current_pipeline, saved_variants

    pipeline = current_pipeline()
    folders = {
        variant.name: variant.folder
        for variant in saved_variants(Path("models"), pipeline)
        if (variant.folder / "config.json").is_file()
    }
    reference = pipeline.networks[0]
    if model is not None and Path(model).is_dir():
        folders[model] = Path(model)
    chosen = model or next((name for name in (SHIPPED.name, *folders) if name in folders and name != reference), None)
    for name in (reference, chosen):
        if name not in folders:
            raise InputError(
                f"{name or 'models'}: no model there; `dvc repro` makes it, or `dvc pull dvc.yaml` fetches it"
            )
    try:
        results, figures = load_results(), sorted(Path("plots/figures").glob("f1_*.png"))
        columns = {title: COSTS[title] for title in DEMO_COLUMNS}
        rows = [[name, *(cell(results, name) for cell in columns.values())] for name in results.records]
        table = [["variant", *columns], *rows]
    except InputError as error:
        print(f"no benchmark tab: {error}", file=sys.stderr)
        table, figures = [], []
    page = build(Duel(folders, reference), chosen, table, figures)
    page.launch(server_name=host, server_port=port, allowed_paths=["plots/figures"])


@app.command()
def space(
    out: Annotated[Path, typer.Argument(help="The new folder.")] = Path("hf_space"),
    model: Annotated[Path, typer.Option(help="The folder of a converted model.")] = SHIPPED,
) -> None:
    """Write a folder that runs the demo alone with one small model, ready to be pushed as a Hugging Face Space."""
    from fincompress.space import write_space

    print(f"{write_space(model, out)}: `pip install -r requirements.txt && python app.py` in it starts the demo")


@app.command()
def doctor() -> None:
    """Say what this machine and this folder have and lack (exit code 1 where something is to be mended)."""
    from fincompress.doctor import examine

    findings = examine()
    table = Table("", "found", "to be mended")
    for finding in findings:
        table.add_row(finding.what, finding.found, finding.mend or "", style="yellow" if finding.mend else None)
    Console().print(table)
    raise typer.Exit(1 if any(finding.mend for finding in findings) else 0)


@app.command()
def results(
    write: Annotated[Path | None, typer.Option(help="A Markdown file with result markers, such as README.md.")] = None,
) -> None:
    """Print the results of the last run as tables, or write them into a document."""
    from fincompress.files import atomic_file
    from fincompress.results import load_results
    from fincompress.tables import insert, report

    content = report(load_results())
    if write is None:
        print(content)
        return
    document = insert(write.read_text(encoding="utf-8"), content)
    with atomic_file(write) as path:
        path.write_text(document, encoding="utf-8")


@app.command()
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
    from fincompress.results import load_metrics
    from fincompress.selection import budget, select
    from fincompress.variants import saved_folder

    records = load_metrics(metrics)
    key = {"real": "latency_ms", "padded": "latency_padded_ms"}[latency]
    limits = budget(records, max_latency_ms, max_size_mb, max_f1_drop, max_memory_mb, key, percentile)
    choice = select(records, limits, key, percentile)
    folder = saved_folder(choice.variant) if choice.variant else None
    if as_json:
        chosen = {"path": folder and str(folder), "metrics": records.get(choice.variant)}
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


@app.command()
def seeds(n: Annotated[int, typer.Option("--n", help="Seeds, the one of params.yaml among them.")] = 5) -> None:
    """Repeat training over seeds: mean and standard deviation of every variant's macro F1."""
    from fincompress.seeds import RECORD, repeat

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


@remote_app.command()
def drive(
    folder_id: Annotated[str | None, typer.Option(help="The folder's id, or its address in the browser.")] = None,
    folder: Annotated[str | None, typer.Option(help="Path of a folder: in My Drive, or below --folder-id.")] = None,
    client_id: Annotated[str | None, typer.Option(help="Id of your OAuth client; its secret is asked for.")] = None,
    client_secret: Annotated[str | None, typer.Option(envvar="GDRIVE_CLIENT_SECRET", help="Rather left out.")] = None,
    service_account: Annotated[Path | None, typer.Option(help="JSON key of a service account.")] = None,
    name: Annotated[str, typer.Option(help="Name of the remote.")] = "drive",
    check: Annotated[bool, typer.Option(help="Sign in, and write and read a file, before anything is saved.")] = True,
) -> None:
    """Keep checkpoints in a Google Drive folder, and make that the default."""
    from fincompress import remote

    root = remote.project_root()
    try:
        _, before = remote.configured(root, name)
    except InputError:
        before = {}
    if client_id and not client_secret and not remote.known_secret(before, client_id) and sys.stdin.isatty():
        client_secret = typer.prompt("Client secret", hide_input=True)
    made = remote.drive_remote(root, folder_id, folder, client_id, client_secret, service_account, before)
    if check:
        _check_access(made.settings)
    remote.save(root, name, made)
    print(f".dvc/config: `{name}` is the default remote; commit it: git add .dvc/config && git commit")
    for key in made.private:
        print(f".dvc/config.local: {key}, which Git ignores: it stays on this machine")
    print("next: dvc push")


@remote_app.command()
def local(
    folder: Annotated[Path, typer.Argument(help="A folder outside the project, on any mounted disk.")],
    name: Annotated[str, typer.Option(help="Name of the remote.")] = "local",
) -> None:
    """Keep checkpoints in a folder of this machine, and make that its default."""
    from fincompress import remote

    root, folder = remote.project_root(), folder.expanduser().resolve()
    if folder.is_relative_to(root.resolve()):
        raise InputError(f"{folder} is inside the project, and would be lost with it: name a folder elsewhere")
    remote.save(root, name, remote.Remote(shared={}, private={"url": str(folder)}))
    print(f".dvc/config.local: `{name}`, {folder}, is the default remote on this machine\nnext: dvc push")


@remote_app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="The remote; without it, the default one.")] = None,
) -> None:
    """Find out why `dvc push` or `dvc pull` fails on a Drive remote, and how to mend it."""
    from fincompress import remote

    name, settings = remote.configured(remote.project_root(), name)
    if not settings["url"].startswith("gdrive://"):
        raise InputError(f"`{name}` is at {settings['url']}; only a remote on Google Drive (gdrive://…) can be checked")
    _check_access(settings)


def _check_access(settings: dict) -> None:
    from fincompress.drive import check_access

    check_access(settings)
    print(f"{settings['url']}: signed in, wrote a file, read it back and put it in the trash")


def main() -> None:
    """Run the command line; what a person can mend is one line on standard error and exit code 2."""
    try:
        app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
