"""Which runtime a model folder is for, and opening it there; each runtime is imported only when needed."""

from pathlib import Path

from fincompress.core.errors import InputError
from fincompress.core.extras import explained
from fincompress.core.files import digest_of_files
from fincompress.core.model_files import WEIGHTS, weight_files
from fincompress.core.runtimes import RUNTIMES, Runtime, load_object
from fincompress.runtimes.base import Classifier


def runtime_of(folder: Path) -> str:
    """The name of the runtime that a model folder is for.

    Raises:
        InputError: it is not a model folder.
    """
    for runtime in RUNTIMES.values():
        if _has_first(folder, runtime):
            return runtime.name
    if not (folder / "config.json").is_file():
        raise InputError(f"{folder}: no model there; `dvc repro` makes it, or `dvc pull` fetches it")
    raise InputError(
        f"{folder}: config.json and no weights that can be read: expected {', '.join(WEIGHTS)}, model.onnx or "
        "openvino_model.xml; fetch them too, or save the model in one of these"
    )


def _has_first(folder: Path, runtime: Runtime) -> bool:
    return any((folder / name).is_file() for name in (runtime.files[0], *runtime.instead))


def weights_digest(folder: Path, runtime: str) -> str:
    """A hash of a model's weights: of all files that its runtime needs, but for the JSON files beside them.

    Args:
        runtime: a key of `core.runtimes.RUNTIMES`.
    """
    first, *others = RUNTIMES[runtime].files
    files = [folder / name for name in (first, *others) if not name.endswith(".json")]
    if RUNTIMES[runtime].instead and not (folder / first).is_file():
        files = weight_files(folder)
    return digest_of_files(files, folder)


def open_classifier(folder: Path, runtime: str, threads: int) -> Classifier:
    """Load the model in `folder` into `runtime` on `threads` CPU threads.

    Args:
        runtime: a key of `core.runtimes.RUNTIMES`.

    Raises:
        InputError: the folder lacks a file that the runtime needs, a file is damaged, or the runtime is not installed.
    """
    entry = RUNTIMES[runtime]
    missing = [name for name in entry.files[1:] if not (folder / name).is_file()]
    if not _has_first(folder, entry):
        missing.insert(0, entry.files[0])
    if missing:
        raise InputError(
            f"{folder}: no {', '.join(missing)}, which a model for {runtime} needs; `dvc repro` rebuilds what the "
            "pipeline made, anything else has to be fetched with all its files"
        )
    with explained():
        return load_object(entry.classifier)(folder, threads)
