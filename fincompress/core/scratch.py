"""Where a stage keeps the state it needs to resume after an interruption."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from fincompress.core.files import digest, digest_of_files, read_json, remove_folder, write_json
from fincompress.core.memory import peak_rss_mb
from fincompress.core.processes import processes

SCRATCH = Path(".scratch")
ELAPSED = "elapsed.json"


@dataclass(frozen=True)
class Scratch:
    """A stage's folder of resume state, and how long the stage has worked on it."""

    folder: Path
    earlier: float  # seconds of interrupted runs
    _start: float = field(default_factory=time.monotonic)

    def seconds(self) -> float:
        """Seconds spent in this run and in earlier ones that ended with Ctrl-C or an error."""
        return self.earlier + time.monotonic() - self._start

    def cost(self) -> dict[str, float]:
        """What the stage has cost so far: `seconds`, and `peak_rss_mb` of this process."""
        return {"seconds": round(self.seconds(), 1), "peak_rss_mb": round(peak_rss_mb(), 1)}


def kept_folder(stage: str, params: dict, inputs: list[Path]) -> Path:
    """Like `scratch_folder`, but never removed: for work that a later command adds to."""
    folder = SCRATCH / f"{stage}-{_digest(params, inputs)}"
    for other in SCRATCH.glob(f"{stage}-*"):
        if other != folder:
            remove_folder(other)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def scratch_folder(stage: str, params: dict, inputs: list[Path]) -> Iterator[Scratch]:
    """The git-ignored folder for a stage's resume state; removed when the block ends without an error.

    DVC removes a stage's outputs before it runs, so the state must live outside them. The folder is named by a hash of
    everything that determines the result: the parameters, the bytes of every input file, the library's code, the
    versions it runs on and the number of processes. A different computation therefore never resumes from this state.
    Folders of the same stage under other hashes are removed.
    """
    folder = kept_folder(stage, params, inputs)
    record = folder / ELAPSED
    scratch = Scratch(folder, read_json(record)["seconds"] if record.is_file() else 0.0)
    try:
        yield scratch
    except BaseException:
        write_json(record, {"seconds": round(scratch.seconds(), 1)})
        raise
    remove_folder(folder)


def _digest(params: dict, inputs: list[Path]) -> str:
    versions = [version(package) for package in ("torch", "transformers", "nncf")]
    package = Path(__file__).parents[1]
    code = digest_of_files(package.rglob("*.py"), package)
    return digest([params, processes(), versions, code, digest_of_files(inputs, Path())])[:16]
