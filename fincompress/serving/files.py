"""Score a large file of texts: streamed in constant memory, and resumed where it was interrupted.

Rows are scored in parts, which are written next to the output and joined at the end. An existing part is not scored
again, as long as input, model and options are the same.
"""

import csv
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType

from tqdm import tqdm

from fincompress.core.errors import InputError
from fincompress.core.extras import explained
from fincompress.core.files import atomic_file, read_json, write_json
from fincompress.data.readers import SUFFIXES, read_rows
from fincompress.serving.classifier import TextClassifier

ROWS = 2048  # in a part, within which texts are batched by length
LABEL, PROBABILITY = "predicted_label", "probability_{}"
_SEPARATORS = {".csv": ",", ".tsv": "\t"}


def score_file(
    classifier: TextClassifier,
    source: Path,
    target: Path,
    text_column: str = "text",
    batch_size: int = 32,
    show_progress: bool = True,
) -> int:
    """Write `target`: the rows of `source` with `predicted_label` and a column `probability_<label>` per label.

    Either is a .csv, .tsv, .jsonl or .parquet file; the last needs the extra `parquet`.

    Returns:
        How many rows were scored.

    Raises:
        InputError: a file that cannot be read or written, or a row without a text.
    """
    for path in (source, target):
        if path.suffix.lower() not in SUFFIXES:
            raise InputError(f"{path}: unknown kind of file; expected one of {', '.join(SUFFIXES)}")
    if ".parquet" in (source.suffix.lower(), target.suffix.lower()):
        _arrow()  # or its absence would show when the first part has been scored
    if not source.is_file():
        raise InputError(f"{source}: not found")
    if target.exists() and target.samefile(source):
        raise InputError(f"{target}: is the input; name another file for the output")
    suffix, parts, count = target.suffix.lower(), [], 0
    folder = _parts_folder(classifier, source, target, [text_column, batch_size])
    with tqdm(desc=source.name, unit=" texts", disable=None if show_progress else True) as progress:
        for number, rows in enumerate(_in_parts(source)):
            part = folder / f"{number:06}{suffix}"
            if not part.is_file():
                with atomic_file(part) as path:
                    _write(path, suffix, _scored(classifier, source, rows, text_column, batch_size))
            parts.append(part)
            count += len(rows)
            progress.update(len(rows))
    with atomic_file(target) as path:
        _join(parts, path, suffix)
    shutil.rmtree(folder)
    return count


def _parts_folder(classifier: TextClassifier, source: Path, target: Path, options: list) -> Path:
    """The folder for the parts, emptied unless it belongs to the same job."""
    files = fingerprint([source, *classifier.folder.iterdir()])
    job = {"files": files, "runtime": classifier.runtime, "options": options, "rows": ROWS}
    folder = target.with_name(f".{target.name}.parts")
    if folder.exists() and (not (folder / "job").is_file() or read_json(folder / "job") != job):
        shutil.rmtree(folder)
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "job", job)
    return folder


def fingerprint(paths: Iterable[Path]) -> list[list]:
    """What shows whether files have changed without reading them: path, size and modification time."""
    files = sorted(path.resolve() for path in paths if path.is_file())
    return [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]


def _arrow() -> tuple[ModuleType, ModuleType]:
    """`pyarrow` and `pyarrow.parquet`.

    Raises:
        InputError: they are not installed.
    """
    with explained():
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet


def _in_parts(source: Path) -> Iterator[list[tuple[str, dict]]]:
    """(where it is, row) pairs, `ROWS` at a time."""
    rows = _parquet_rows(source) if source.suffix.lower() == ".parquet" else read_rows(source)
    while part := list(itertools.islice(rows, ROWS)):
        yield part


def _parquet_rows(source: Path) -> Iterator[tuple[str, dict]]:
    """Rows of a Parquet file, of which no more than a batch is held."""
    pa, pq = _arrow()
    try:
        batches = pq.ParquetFile(source).iter_batches(batch_size=ROWS)
        rows = (row for batch in batches for row in batch.to_pylist())
        for number, row in enumerate(rows, start=1):
            yield f"row {number}", row
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{source}: not readable as Parquet: {error}") from None


def _scored(
    classifier: TextClassifier, source: Path, rows: list[tuple[str, dict]], text_column: str, batch_size: int
) -> list[dict]:
    texts = []
    for where, row in rows:
        if text_column not in row:
            raise InputError(f"{source}, {where}: no column `{text_column}`; columns found: {', '.join(map(str, row))}")
        text = row[text_column]
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"{source}, {where}: empty text in column `{text_column}`; remove or fill the row")
        texts.append(text)
    columns = [PROBABILITY.format(label) for label in classifier.labels]
    return [
        {**row, LABEL: classifier.labels[int(own.argmax())], **dict(zip(columns, own.round(6).tolist(), strict=True))}
        for (_, row), own in zip(rows, classifier.probabilities(texts, batch_size), strict=True)
    ]


def _write(path: Path, suffix: str, rows: list[dict]) -> None:
    """Write rows as a file; in a table, all must have the columns of the first."""
    if suffix == ".parquet":
        pa, pq = _arrow()
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif suffix == ".jsonl":
        with path.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter=_SEPARATORS[suffix], lineterminator="\n")
            writer.writeheader()
            try:
                writer.writerows(rows)
            except ValueError as error:
                raise InputError(f"rows do not all have the same columns ({error}); write .jsonl instead") from None


def _join(parts: list[Path], path: Path, suffix: str) -> None:
    """Join the parts, one at a time."""
    if suffix == ".parquet":
        pa, pq = _arrow()
        schema = pa.unify_schemas([pq.read_schema(part) for part in parts], promote_options="permissive")
        with pq.ParquetWriter(path, schema) as writer:
            for part in parts:
                writer.write_table(pq.read_table(part, schema=schema))
        return
    header = None
    with path.open("wb") as joined:
        for part in parts:
            with part.open("rb") as file:
                if suffix in _SEPARATORS:
                    own = file.readline()
                    if header not in (None, own):
                        raise InputError("rows do not all have the same columns; write .jsonl instead")
                    if header is None:
                        joined.write(own)
                    header = own
                shutil.copyfileobj(file, joined)
