"""The command `fincompress`: what people do beside running the pipeline, which is `dvc`'s part."""

import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console
from rich.table import Table

from fincompress.errors import InputError

SHIPPED = Path("models/ptq/ikd_ort_int8")

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
remote_app = typer.Typer(no_args_is_help=True, help="Where checkpoints are kept: `dvc push` and `dvc pull` go there.")
app.add_typer(remote_app, name="remote")


@app.command()
def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, the lines of standard input.")] = None,
    model: Annotated[Path, typer.Option(help="A model folder, of any format.")] = SHIPPED,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with all probabilities.")] = False,
) -> None:
    """Print the label of each text and its probability."""
    from fincompress.predict import predict as classify

    texts = texts or [line.strip() for line in sys.stdin if line.strip()]
    if not texts:
        raise InputError("no text: give some as arguments, or a line each on standard input")
    for prediction in classify(model, texts):
        if as_json:
            print(json.dumps(vars(prediction), ensure_ascii=False))
        else:
            print(f"{prediction.label}\t{prediction.probabilities[prediction.label]:.3f}\t{prediction.text}")


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
