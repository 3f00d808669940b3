"""What `prepare` wrote: the splits as frames, and the label names."""

from pathlib import Path

import pandas as pd

from fincompress.core.errors import InputError
from fincompress.core.files import read_json

SPLITS = ("train", "val", "test")
FILES = {*(f"{name}.csv" for name in SPLITS), "labels.json"}
"""What the folder of prepared data holds, and nothing else."""


def read_labels(data: Path) -> list[str]:
    """The label names in id order, as `prepare` wrote them."""
    return read_json(_existing(data / "labels.json"))["labels"]


def read_split(data: Path, name: str) -> pd.DataFrame:
    """One split (`train`, `val` or `test`). All columns are strings; missing values are empty."""
    return pd.read_csv(_existing(data / f"{name}.csv"), dtype=str, keep_default_na=False)


def calibration_texts(train: pd.DataFrame, samples: int, seed: int) -> list[str]:
    """`samples` texts of the training split (all of them where it has fewer), drawn without replacement."""
    return train["text"].sample(min(samples, len(train)), random_state=seed).tolist()


def _existing(path: Path) -> Path:
    if not path.is_file():
        raise InputError(f"{path}: not found; `dvc repro prepare` writes it")
    return path


def normalise(text: str) -> str:
    """A text in the form that decides whether two are the same: casefolded, whitespace collapsed."""
    return " ".join(text.split()).casefold()


def check_own(data: Path) -> None:
    """Refuse to fill a folder with files that `prepare` did not make: they would count as its output.

    Raises:
        InputError: names one.
    """
    others = sorted(path.relative_to(data).as_posix() for path in data.rglob("*") if path.name not in FILES)
    if others:
        raise InputError(f"{data / others[0]}: not made by `prepare`, whose output {data}/ is; move it elsewhere")
