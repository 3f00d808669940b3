"""Score a folder of files, one after another here or spread over a Ray cluster.

Why Ray Data and not Spark: its workers are Python processes that keep the model loaded between files, it installs with
pip and needs no Java runtime, and a single machine is a cluster too (`pip install 'fincompress[ray]'`). A file is the
unit of work, and its output appears whole or not at all: if a worker is lost, another scores its file again, and
finished files are not repeated.
"""

import logging
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from tqdm import tqdm

from fincompress.core.errors import InputError
from fincompress.core.extras import explained
from fincompress.core.files import check_new, read_json, write_json
from fincompress.core.threads import usable_cores
from fincompress.data.readers import SUFFIXES
from fincompress.runtimes.registry import runtime_of
from fincompress.serving.classifier import load_classifier
from fincompress.serving.files import ERRORS, OnError, errors_file, fingerprint, score_file

Engine = Literal["local", "ray"]
_JOB = ".job.json"
_SETTINGS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # otherwise it warns about its own way of passing arguments
    "RAY_agent_register_timeout_ms": "300000",  # a busy machine takes longer than the default of 30 s to start
    "RAY_raylet_start_wait_time_s": "300",
}


@dataclass(frozen=True)
class Scoring:
    """What to do with every file."""

    model: str  # its folder, which every worker must see under its full path, like the files
    runtime: str | None
    threads: int | None  # per worker; None divides this machine's cores among them
    text_column: str
    batch_size: int
    on_error: OnError = "fail"


@dataclass(frozen=True)
class FolderScored:
    """What a run did: rows scored, how many of them have no text, and what is wrong with files it could not score."""

    rows: int
    bad: int
    errors: list[str]


class _Worker:
    """Keeps the model loaded between files."""

    def __init__(self, scoring: Scoring):
        self.scoring = scoring
        self.classifier = load_classifier(scoring.model, scoring.runtime, scoring.threads)

    def __call__(self, file: dict) -> dict:
        """Score the file `source` into `target`. A mistake in it is returned, so that it does not look like a crash."""
        source, target = Path(file["source"]), Path(file["target"])
        column, size = self.scoring.text_column, self.scoring.batch_size
        try:
            scored = score_file(
                self.classifier, source, target, column, size, show_progress=False, on_error=self.scoring.on_error
            )
        except InputError as error:
            return {"rows": 0, "bad": 0, "error": str(error)}
        return {"rows": scored.rows, "bad": scored.bad, "error": ""}


def score_folder(
    scoring: Scoring, source: Path, target: Path, engine: Engine = "local", workers: int = 1
) -> FolderScored:
    """Write a scored file into `target` for every CSV, TSV, JSONL or Parquet file below `source`, under the same name.

    Files that an earlier run of the same scoring has finished are left alone. The others are
    scored even if a file cannot be.

    Args:
        workers: processes with the model loaded, on a Ray cluster.

    Raises:
        InputError: there is no such file, or `target` belongs to another scoring.
    """
    scoring = replace(
        scoring, model=str(Path(scoring.model).resolve()), threads=scoring.threads or max(1, usable_cores() // workers)
    )
    files = _files(source, target)
    _claim(scoring, target)
    waiting = [file for file in files if not _finished(Path(file["source"]), Path(file["target"]), scoring.on_error)]
    if not waiting:
        return FolderScored(0, 0, [])
    for file in waiting:
        Path(file["target"]).parent.mkdir(parents=True, exist_ok=True)
    results = map(_Worker(scoring), waiting) if engine == "local" else _on_ray(scoring, waiting, workers)
    rows, bad, errors = 0, 0, []
    for result in tqdm(results, desc=source.name, total=len(waiting), unit=" files", disable=None):
        rows, bad = rows + result["rows"], bad + result["bad"]
        errors += [result["error"]] if result["error"] else []
    return FolderScored(rows, bad, sorted(errors))


def _files(source: Path, target: Path) -> list[dict[str, str]]:
    """The absolute `source` and `target` of every file."""
    if target.resolve().is_relative_to(source.resolve()):
        raise InputError(f"{target}: is inside the input; name another folder for the output")
    found = [path for path in sorted(source.rglob("*")) if path.suffix.lower() in SUFFIXES and _is_input(path)]
    if not found:
        raise InputError(f"{source}: no {', '.join(SUFFIXES)} file below it")
    return [
        {"source": str(path.resolve()), "target": str(target.resolve() / path.relative_to(source))} for path in found
    ]


def _is_input(path: Path) -> bool:
    """Whether it is a file, and neither hidden nor the list of bad rows beside an output."""
    return path.is_file() and not path.name.startswith(".") and not path.name.endswith(ERRORS)


def _claim(scoring: Scoring, target: Path) -> None:
    """Mark a folder as the output of this scoring, unless it already is."""
    model = Path(scoring.model)
    runtime_of(model)  # raises if something is wrong with the folder, before any worker starts
    options = {key: value for key, value in asdict(scoring).items() if key not in ("threads", "on_error")}
    job = {**options, "files": fingerprint(model.iterdir())}
    if (target / _JOB).is_file():
        if read_json(target / _JOB) != job:
            raise InputError(f"{target}: holds what another model or other options scored; name a new folder")
    else:
        check_new(target)
        write_json(target / _JOB, job)


def _finished(source: Path, target: Path, on_error: OnError) -> bool:
    if on_error == "fail" and errors_file(target).is_file():
        return False
    return target.is_file() and target.stat().st_mtime_ns >= source.stat().st_mtime_ns


def ray_settings() -> None:
    """Set what Ray reads from the environment when it is imported, but for what is set already."""
    for name, value in _SETTINGS.items():
        os.environ.setdefault(name, value)


def _on_ray(scoring: Scoring, files: list[dict[str, str]], workers: int) -> Iterable[dict]:
    """Score files on the cluster that RAY_ADDRESS names, or on one made of this machine."""
    ray_settings()
    with explained():
        import ray
    pool, cores, threads = min(workers, len(files)), usable_cores(), scoring.threads or 1
    if "RAY_ADDRESS" not in os.environ and pool * threads > cores:
        raise InputError(
            f"{pool} workers of {threads} threads are more than the {cores} cores here; lower --workers "
            "or --threads, or name a cluster in RAY_ADDRESS"
        )
    ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    try:
        ray.data.DataContext.get_current().enable_progress_bars = False  # it counts Ray's own stages, ours files
        logging.getLogger("ray.data").setLevel(logging.ERROR)
        scored = ray.data.from_items(files, override_num_blocks=len(files)).map(
            cast(Any, _Worker),  # a class that makes callables
            fn_constructor_args=(scoring,),
            num_cpus=threads,
            compute=ray.data.ActorPoolStrategy(size=pool),
        )
        yield from scored.iter_rows()
    finally:
        ray.shutdown()
