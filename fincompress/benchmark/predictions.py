"""Predictions that are kept between runs, so that a model is scored once per content.

An entry is found by a hash over all that decides what it holds: the bytes of the model folder, the runtime and its
threads, the texts, the code that scores them, the libraries and the processor. Whatever changes, another entry is
looked for; nothing is ever taken for something else.
"""

import os
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from fincompress.benchmark.machine import cpu_name, libraries, vector_instructions
from fincompress.core.files import atomic_file, digest, digest_of_files
from fincompress.core.scratch import SCRATCH
from fincompress.core.variants import Variant

FOLDER = SCRATCH / "predictions"
KEPT_DAYS = 30  # since an entry was last used
KEPT_ENTRIES = 1000  # those used last
_SCORING_CODE = ("core", "networks", "runtimes", "benchmark/worker.py")  # below the package


class Predictions:
    """The kept predictions of some variants.

    The models are read when this is made, which must be before they are loaded: an entry then never holds what a model
    predicted that was exchanged meanwhile.
    """

    def __init__(self, variants: Iterable[Variant], threads: int, folder: Path = FOLDER):
        self._folder = folder
        scoring = [cpu_name(), vector_instructions(), libraries(), threads, _digest_of_code(Path(__file__).parents[1])]
        self._models = {
            variant.name: digest([*scoring, variant.runtime, digest_of_folder(variant.folder)]) for variant in variants
        }

    def find(self, variant: Variant, texts: list[str], labels: int) -> np.ndarray | None:
        """The logits of `texts`, float32 [texts, labels]; None where they are not kept or cannot be read."""
        path = self._path(variant, texts)
        try:
            with np.load(path, allow_pickle=False) as content:
                logits = content["logits"]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        if logits.shape != (len(texts), labels) or logits.dtype != np.float32:
            return None
        os.utime(path)  # it is in use
        return logits

    def keep(self, variant: Variant, texts: list[str], logits: np.ndarray) -> None:
        """Keep the logits of `texts`, float32 [texts, labels]."""
        with atomic_file(self._path(variant, texts)) as path:
            np.savez(path, logits=logits)

    def prune(self) -> None:
        """Remove what has not been used for `KEPT_DAYS`, and all but the `KEPT_ENTRIES` used last."""
        used = {path: path.stat().st_mtime for path in self._folder.glob("*.npz")}
        latest = sorted(used, key=lambda path: used[path], reverse=True)
        for place, path in enumerate(latest):
            if place >= KEPT_ENTRIES or used[path] < time.time() - KEPT_DAYS * 86400:
                path.unlink(missing_ok=True)

    def _path(self, variant: Variant, texts: list[str]) -> Path:
        return self._folder / f"{digest([self._models[variant.name], texts])}.npz"


def digest_of_folder(folder: Path) -> str:
    """A hash over the names and bytes of all files in a folder."""
    return digest_of_files([folder], folder)


def _digest_of_code(package: Path) -> str:
    """A hash over the source files whose change could alter predictions."""
    places = [package / name for name in _SCORING_CODE]
    return digest_of_files(
        (file for place in places for file in ([place] if place.is_file() else place.rglob("*.py"))), package
    )
