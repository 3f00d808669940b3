"""Which runtime a model folder is for, and opening it there; each runtime is imported only when needed."""

from pathlib import Path

from fincompress.core.errors import InputError
from fincompress.core.extras import explained
from fincompress.core.files import digest_of_files
from fincompress.core.runtimes import RUNTIMES, load_object
from fincompress.runtimes.base import Classifier


def runtime_of(folder: Path) -> str:
    """The name of the runtime that a model folder is for.

    Raises:
        InputError: it is not a model folder.
    """
    for runtime in RUNTIMES.values():
        if (folder / runtime.files[0]).is_file():
            return runtime.name
    raise InputError(f"{folder}: no model there; `dvc repro` makes it, or `dvc pull` fetches it")


def weights_digest(folder: Path, runtime: str) -> str:
    """A hash of a model's weights: of all files that its runtime needs, but for the JSON files beside them.

    Args:
        runtime: a key of `core.runtimes.RUNTIMES`.
    """
    files = [name for name in RUNTIMES[runtime].files if not name.endswith(".json")]
    return digest_of_files([folder / name for name in files], folder)


def open_classifier(folder: Path, runtime: str, threads: int) -> Classifier:
    """Load the model in `folder` into `runtime` on `threads` CPU threads.

    Args:
        runtime: a key of `core.runtimes.RUNTIMES`.

    Raises:
        InputError: the folder lacks a file that the runtime needs, or the runtime is not installed.
    """
    entry = RUNTIMES[runtime]
    missing = [name for name in entry.files if not (folder / name).is_file()]
    if missing:
        raise InputError(
            f"{folder}: no {', '.join(missing)}, which a model for {runtime} needs; `dvc repro` rebuilds it"
        )
    with explained():
        return load_object(entry.classifier)(folder, threads)
