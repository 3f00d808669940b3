"""Score a large file of texts: streamed in constant memory, and resumed where it was interrupted.

Rows are scored in parts, whose results are kept next to the output until it is whole. A part with the same texts is not
scored again, as long as model and options are the same, whatever else in the input has changed.
"""

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tqdm import tqdm

from fincompress.core.errors import InputError
from fincompress.data.readers import SUFFIXES
from fincompress.serving.arrow import arrow
from fincompress.serving.bad_rows import bad_rows, refusal
from fincompress.serving.classifier import TextClassifier
from fincompress.serving.kept_results import KeptResults
from fincompress.serving.tables import Part, Table, open_table
from fincompress.serving.writers import open_writer

ROWS = 2048  # in a part, within which texts are batched by length
LABEL, PROBABILITY = "predicted_label", "probability_{}"
ERRORS = ".errors.jsonl"
"""What the name of an output is followed by in that of the list of its bad rows."""
OnError = Literal["fail", "null"]
"""What a row without a text does: end the job before it begins, or get no result."""


@dataclass(frozen=True)
class Scored:
    """How many rows a file has, and how many of them have no text and so no result."""

    rows: int
    bad: int


def errors_file(target: Path) -> Path:
    """Where the rows of an output that have no result are listed."""
    return target.with_name(target.name + ERRORS)


def score_file(
    classifier: TextClassifier,
    source: Path,
    target: Path,
    text_column: str = "text",
    batch_size: int = 32,
    show_progress: bool = True,
    on_error: OnError = "fail",
) -> Scored:
    """Write `target`: the rows of `source` with `predicted_label` and a column `probability_<label>` per label.

    Either is a .csv, .tsv, .jsonl or .parquet file; the last needs the extra `parquet`. From Parquet to Parquet,
    columns keep their types. Every row gets every column that some row has. With `on_error="null"`, results of rows
    without a text are null, and `errors_file(target)` lists these rows.

    Raises:
        InputError: a file that cannot be read or written, a column that a result's would replace, or, with
            `on_error="fail"`, a row without a text. Nothing has been scored then, unless reading failed midway.
    """
    suffix = _checked_suffix(source, target)
    before = fingerprint([source])
    table = open_table(source, typed=suffix == ".parquet")
    total = _survey(table, source, text_column, on_error)
    columns = {LABEL: "string", **{PROBABILITY.format(label): "double" for label in classifier.labels}}
    if taken := [column for column in columns if column in table.columns]:
        raise InputError(f"{source}: has a column `{taken[0]}`, as a result is called; rename or remove it")
    try:
        kept = KeptResults(target.with_name(f".{target.name}.parts"), _job(classifier, batch_size))
        rows, bad, listed = 0, 0, kept.folder / "errors.jsonl"
        with (
            tqdm(total=total, desc=source.name, unit=" texts", disable=None if show_progress else True) as progress,
            kept.file(target) as path,
        ):
            with listed.open("w", encoding="utf-8") as errors, open_writer(path, suffix, table, columns) as writer:
                for part, reasons, results in _scored_parts(classifier, table, text_column, batch_size, kept):
                    writer.write(part, dict(zip(columns, results, strict=True)))
                    errors.writelines(_listed(part, reasons, rows))
                    rows, bad = rows + len(part.places), bad + len(reasons)
                    progress.update(len(part.places))
            if fingerprint([source]) != before:
                raise InputError(f"{source}: changed while it was scored; start again")
            if bad:
                os.replace(listed, errors_file(target))
            else:
                errors_file(target).unlink(missing_ok=True)
        kept.remove()
    except OSError as error:
        raise InputError(f"{target}: cannot be written: {error.strerror or error}") from None
    return Scored(rows, bad)


def fingerprint(paths: Iterable[Path]) -> list[list]:
    """What shows whether files have changed without reading them: path, size and modification time."""
    files = sorted(path.resolve() for path in paths if path.is_file())
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _checked_suffix(source: Path, target: Path) -> str:
    """The output's kind, if both are files of a known kind."""
    for path in (source, target):
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
    if ".parquet" in (source.suffix.lower(), target.suffix.lower()):
        arrow()  # or its absence would show later
    if not source.is_file():
        raise InputError(f"{source}: not found")
    if target.is_dir():
        raise InputError(f"{target}: is a folder; name a file for the output")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input; name another file for the output")
    return target.suffix.lower()


def _survey(table: Table, source: Path, column: str, on_error: OnError) -> int:
    """Go through the whole file before anything is scored; returns how many rows it has."""
    rows, bad, first = 0, 0, None
    for part in table.survey(ROWS, column):
        reasons = bad_rows(part, column)
        if first is None and reasons:
            first = part, min(reasons), reasons[min(reasons)]
        bad += len(reasons)
        rows += len(part.places)
    if column not in table.columns:
        raise InputError(f"{source}: no column `{column}`; columns found: {', '.join(table.columns) or 'none'}")
    if first is not None and on_error == "fail":
        raise refusal(source, column, *first, bad)
    return rows


def _job(classifier: TextClassifier, batch_size: int) -> dict[str, Any]:
    """What the results of a part depend on besides its texts."""
    return {"model": fingerprint(classifier.folder.iterdir()), "runtime": classifier.runtime, "batch_size": batch_size}


def _scored_parts(
    classifier: TextClassifier, table: Table, column: str, batch_size: int, kept: KeptResults
) -> Iterator[tuple[Part, dict[int, str], list[list]]]:
    """Each part of a table, its bad rows, and the values of the result's columns: labels, then each label's own."""
    for part in table.parts(ROWS):
        reasons = bad_rows(part, column)
        texts = [text for row, text in enumerate(part.values(column)) if row not in reasons]
        results: list[list] = [[None] * len(part.places) for _ in range(1 + len(classifier.labels))]
        if texts:
            scores = kept.of(texts, lambda texts: classifier.probabilities(texts, batch_size))
            good = (row for row in range(len(part.places)) if row not in reasons)
            for row, own in zip(good, scores, strict=True):
                values = [classifier.labels[int(own.argmax())], *own.round(6).tolist()]
                for result, value in zip(results, values, strict=True):
                    result[row] = value
        yield part, reasons, results


def _listed(part: Part, reasons: dict[int, str], before: int) -> Iterator[str]:
    """A line of the file of errors for each bad row of a part, which `before` rows precede."""
    for row, reason in reasons.items():
        yield json.dumps({"row": before + row + 1, "at": part.places[row], "reason": reason}, ensure_ascii=False) + "\n"
