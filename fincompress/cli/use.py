"""The commands that use a model: predict, compare, export, quantize."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, TextIO, TypeAlias

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fincompress.core.errors import InputError
from fincompress.core.runtimes import INT8_RUNTIMES, RUNTIMES

if TYPE_CHECKING:
    from fincompress.serving.folders import Scoring

SHIPPED = Path("models/ptq/ikd_ort_int8")
"""The model folder that commands use by default."""
Engine = Literal["local", "ray"]
OnError = Literal["fail", "null"]
if TYPE_CHECKING:
    Runtime: TypeAlias = str  # a type checker knows no choices that are looked up
    Format: TypeAlias = str
    Int8Format: TypeAlias = str
else:
    Runtime = Literal[tuple(RUNTIMES)]
    Format = Literal[tuple(runtime.format for runtime in RUNTIMES.values() if runtime.format)]
    Int8Format = Literal[tuple(runtime.format for runtime in INT8_RUNTIMES)]


def predict(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, the lines of standard input.")] = None,
    model: Annotated[Path, typer.Option(help="A model folder, of any format.")] = SHIPPED,
    runtime: Annotated[Runtime | None, typer.Option(help="Without it, the one that the folder is for.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Without it, one a core.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Texts that are classified together.")] = 32,
    source: Annotated[
        Path | None, typer.Option("--input", help="A .csv, .tsv, .jsonl or .parquet file, or a folder of such files.")
    ] = None,
    target: Annotated[Path | None, typer.Option("--output", help="What to write its rows to, scored.")] = None,
    text_column: Annotated[str, typer.Option(help="The column of --input that holds the texts.")] = "text",
    on_error: Annotated[
        OnError, typer.Option(help="What a row of --input without a text does: end the job, or get no result.")
    ] = "fail",
    engine: Annotated[Engine, typer.Option(help="What scores a folder.")] = "local",
    workers: Annotated[int, typer.Option(min=1, help="Processes of --engine ray, of --threads each.")] = 1,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line, with all probabilities.")] = False,
) -> None:
    """Print the label of each text and its probability, or score the rows of a file or a folder into another."""
    from fincompress.serving.classifier import load_classifier

    if (source is None) != (target is None):
        raise InputError("--input and --output go together: the file to read and the one to write")
    if source is not None and texts:
        raise InputError("give texts or --input, not both")
    if source is not None and target is not None:
        from fincompress.serving.folders import Scoring

        _score(
            Scoring(str(model), runtime, threads, text_column, batch_size, on_error), source, target, engine, workers
        )
        return
    texts = _given(texts)
    for prediction in load_classifier(model, runtime, threads)(texts, batch_size):
        if as_json:
            print(json.dumps(vars(prediction), ensure_ascii=False))
        else:
            print(f"{prediction.label}\t{prediction.confidence:.3f}\t{prediction.text}")


def _given(texts: list[str] | None) -> list[str]:
    """The arguments or, without any, the lines of standard input.

    Bytes that are no text come as halves of surrogate pairs where Python lets them pass: in arguments, and in standard
    input of some locales.
    """
    given = [(f"text {number}", text) for number, text in enumerate(texts or (), start=1)] or list(_lines(sys.stdin))
    if not given:
        raise InputError("no text: give some as arguments, or a line each on standard input")
    for where, text in given:
        if any("\ud800" <= character <= "\udfff" for character in text):
            raise InputError(f"{where}: not UTF-8; convert it first, for example with iconv")
    return [text for _, text in given]


def _lines(file: TextIO) -> Iterator[tuple[str, str]]:
    """Where it is, and the text, of each line that is not blank."""
    number = 0
    try:
        for number, line in enumerate(file, start=1):
            if text := line.removeprefix("\ufeff").strip():
                yield f"standard input, line {number}", text
    except UnicodeDecodeError as error:
        where = f"standard input, after line {number}"
        raise InputError(f"{where}: not {error.encoding.upper()}; convert it first, for example with iconv") from None


def _score(scoring: "Scoring", source: Path, target: Path, engine: Engine, workers: int) -> None:
    """Score a file, or a folder of them, and say how long it took."""
    from fincompress.serving.classifier import load_classifier
    from fincompress.serving.files import ERRORS, errors_file, score_file
    from fincompress.serving.folders import score_folder

    if engine != "local" and not source.is_dir():
        raise InputError(f"{source}: --engine {engine} scores a folder of files")
    start, errors = time.perf_counter(), []
    try:
        if source.is_dir():
            folder = score_folder(scoring, source, target, engine, workers)
            rows, bad, errors, listed = folder.rows, folder.bad, folder.errors, f"*{ERRORS} beside the outputs"
        else:
            classifier = load_classifier(scoring.model, scoring.runtime, scoring.threads)
            column, size = scoring.text_column, scoring.batch_size
            file = score_file(classifier, source, target, column, size, on_error=scoring.on_error)
            rows, bad, listed = file.rows, file.bad, str(errors_file(target))
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from here", file=sys.stderr)
        raise typer.Exit(130) from None
    seconds = time.perf_counter() - start
    missing = f"; {bad} of them without a text and a result, listed in {listed}" if bad else ""
    print(f"{target}: {rows} rows in {seconds:.1f} s, {rows / seconds:.0f} a second{missing}", file=sys.stderr)
    for error in errors:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        raise typer.Exit(1)


def compare(
    texts: Annotated[list[str] | None, typer.Argument(help="Texts; without any, the lines of standard input.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A variant's name or a model folder; may be given several times.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Without it, one a core.")] = None,
) -> None:
    """Ask several models the same: the label of each text, its probability, and the latency, side by side."""
    from fincompress.serving.comparison import compare as ask

    texts = _given(texts)
    names = model or ["teacher", "ikd_ort_int8", "tiny_ort_int8"]
    answers = ask({name: _folder(name) for name in names}, texts, threads)
    table = Table("text", *(f"{answer.model}\n{answer.latency_ms:.1f} ms" for answer in answers), show_lines=True)
    for row, text in enumerate(texts):
        said = [answer.predictions[row] for answer in answers]
        styles = ["" if own.label == said[0].label else "bold" for own in said]
        cells = (Text(f"{own.label} {own.confidence:.2f}", style) for own, style in zip(said, styles, strict=True))
        table.add_row(Text(text), *cells)
    Console().print(table)
    same = sum(len({answer.predictions[row].label for answer in answers}) == 1 for row in range(len(texts)))
    print(f"{same} of {len(texts)} texts get the same label from all; others than {answers[0].model}'s are in bold")


def _folder(name: str) -> Path:
    """The model folder of this path, or of the variant of this name."""
    if Path(name).is_dir():
        return Path(name)
    from fincompress.core.params import current_pipeline
    from fincompress.core.variants import saved_folder

    folder = saved_folder(name, current_pipeline())
    if folder is None:
        raise InputError(f"{name}: neither a model folder nor a variant that the pipeline keeps")
    return folder


def export(
    model: Annotated[Path, typer.Argument(help="A model folder.")],
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    kind: Annotated[Format, typer.Option("--format", help="Of the new folder.")] = "onnx",
) -> None:
    """Write a model as a standalone folder with tokenizer and card, and check it against its source."""
    from fincompress.serving.export import export as hand_over

    done = hand_over(model, kind, out)
    print(f"{done.folder}: {kind}; logits of {done.texts} sentences differ by at most {done.difference:.2g}")


def quantize(
    model: Annotated[Path, typer.Argument(help="The folder of a fine-tuned checkpoint.")],
    out: Annotated[Path, typer.Argument(help="The new folder.")],
    kind: Annotated[Int8Format, typer.Option("--format", help="Of the new folder.")] = "onnx",
    calibrate: Annotated[
        Path | None, typer.Option(help="Texts like yours: a .txt file, a line each, or a .csv, .tsv, .jsonl, .parquet.")
    ] = None,
    check: Annotated[Path | None, typer.Option(help="Labelled texts: .csv, .tsv, .jsonl or .parquet.")] = None,
    max_f1_drop: Annotated[
        float | None, typer.Option(min=0, max=1, help="Macro F1 that may be lost on --check; 0.01 if not given.")
    ] = None,
    text_column: Annotated[str, typer.Option(help="The column of these files that holds the texts.")] = "text",
    label_column: Annotated[str, typer.Option(help="The column of --check that holds the labels.")] = "label",
    embedding_group: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=16,
            help="For onnx: numbers of an embedding that share a byte; 3 if not given, 0 for a byte each.",
        ),
    ] = None,
    keep_classifier_float: Annotated[bool, typer.Option(help="Leave the last layer in fp32.")] = False,
) -> None:
    """Make a fine-tuned checkpoint int8, as a standalone folder, and say what that changes in its answers.

    Ends with 1, and writes nothing, where macro F1 on --check falls by more than --max-f1-drop.
    """
    if max_f1_drop is not None and check is None:
        raise InputError("--max-f1-drop goes with --check: the labelled texts that macro F1 is measured on")
    if embedding_group is not None and kind != "onnx":
        raise InputError(f"--embedding-group is of --format onnx alone; --format {kind} has a byte for each number")
    from fincompress.serving.quantize import Request, TooMuchLost
    from fincompress.serving.quantize import quantize as convert

    given = {"max_f1_drop": max_f1_drop, "embedding_group": embedding_group}
    request = Request(
        model,
        kind,
        calibrate,
        check,
        text_column=text_column,
        label_column=label_column,
        keep_classifier_float=keep_classifier_float,
        **{name: value for name, value in given.items() if value is not None},  # type: ignore[arg-type]  # each its own
    )
    try:
        print(convert(request, out).summary(model))
        print(f"{out}: written, with a card that says the same")
    except TooMuchLost as error:
        print(error.result.summary(model))
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(1) from None
