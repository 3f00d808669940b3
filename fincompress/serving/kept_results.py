"""Results of an unfinished job, kept beside its output so that a second run does not compute them again."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from fincompress.core.files import atomic_file, digest, read_json, write_json


class KeptResults:
    """Probabilities of parts, found by the texts themselves: a part whose texts are mended is another part."""

    def __init__(self, folder: Path, job: dict[str, Any]):
        """Take over a folder that the same job left; whatever another one left is removed.

        Args:
            job: what the results depend on besides the texts, as JSON can say it.
        """
        self.folder = folder
        if folder.exists() and _job(folder) != job:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "job", job)

    def of(self, texts: list[str], compute: Callable[[list[str]], np.ndarray]) -> np.ndarray:
        """The results of texts, [texts, ...], computed unless they are kept."""
        path = self.folder / f"{digest(texts)}.npy"
        try:
            kept = np.load(path, allow_pickle=False)
            if len(kept) == len(texts):
                return kept
        except (OSError, ValueError, EOFError):  # none yet, or half written when the power went
            pass
        results = compute(texts)
        with atomic_file(path) as temporary:
            np.save(temporary, results)
        return results

    @contextmanager
    def file(self, target: Path) -> Iterator[Path]:
        """A path in the folder; what is written there becomes `target` when the block succeeds.

        A process that is killed thus leaves nothing beside its output but the folder.
        """
        written = self.folder / f"written-{target.name}"
        with atomic_file(written) as path:
            yield path
        os.replace(written, target)

    def remove(self) -> None:
        """Remove everything: the job is done."""
        shutil.rmtree(self.folder)


def _job(folder: Path) -> dict | None:
    try:
        return read_json(folder / "job")
    except (OSError, ValueError):
        return None
