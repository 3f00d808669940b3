"""Texts from outside the prepared data: unlabelled ones to learn from, labelled ones to score.

Texts that are also in the prepared splits are left out, so that a student does not see the test split and a score is
not mistaken for one on unseen text.
"""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

from fincompress.core.data_sections import FilesParams
from fincompress.core.errors import InputError
from fincompress.data.prepared import SPLITS, normalise, read_split
from fincompress.data.readers import read_files
from fincompress.data.tables import SUFFIXES, cell_text, read_rows

TEXTS = (".txt", *SUFFIXES)
"""What files of unlabelled texts end with."""


def _files(path: str, suffixes: tuple[str, ...], key: str) -> list[Path]:
    """The file of this path, or the files in the folder, which may hold none.

    Raises:
        InputError: there is nothing.
    """
    given = Path(path)
    if given.is_dir():
        found = (file for file in given.rglob("*") if file.suffix.lower() in suffixes and file.is_file())
        return sorted(file for file in found if not file.name.startswith("."))
    if given.is_file():
        return [given]
    raise InputError(f"{path}: not found ({key})")


def read_transfer(path: str, data: Path) -> pd.DataFrame:
    """Every text in a file, or in the files of a folder, that is not in the splits in `data`.

    Returns:
        One column, `text`; no rows if the folder holds no files.

    Raises:
        InputError: a file cannot be used, or holds nothing new.
    """
    files = _files(path, TEXTS, "kd.transfer")
    if not files:
        return pd.DataFrame({"text": []})
    texts = list({normalise(text): text for file in files for text in read_unlabelled(file)}.values())
    fresh = unseen(pd.DataFrame({"text": texts}), data)
    if fresh.empty:
        raise InputError(f"params.yaml: kd.transfer: every text of {path} is in the prepared data already")
    print(f"transfer: {len(fresh)} unlabelled texts; {len(texts) - len(fresh)} left out, being in the prepared data")
    return fresh


def read_unlabelled(file: Path, key: str = "kd.transfer", column: str = "text") -> list[str]:
    """The texts in a .txt file (one per line) or in a column of a .csv, .tsv, .jsonl or .parquet file.

    Args:
        key: the param or the option that names the file, for errors.
    """
    if not file.is_file():
        raise InputError(f"{file}: not found ({key})")
    if file.suffix.lower() != ".txt":
        rows = list(read_rows(file))
        missing = [where for where, row in rows if column not in row]
        if missing:
            raise InputError(f"{file}, {missing[0]}: no column `{column}` ({key})")
        lines = [cell_text(row[column], f"{file}, {where}, column `{column}`") for where, row in rows]
    else:
        try:
            lines = file.read_text(encoding="utf-8-sig").split("\n")  # `splitlines` also parts at U+2028 and the like
        except UnicodeDecodeError as error:
            raise InputError(f"{file}: not UTF-8 (byte {error.start}); convert it first ({key})") from None
    texts = [" ".join(line.split()) for line in lines if line.strip()]
    if not texts:
        raise InputError(f"{file}: no texts ({key})")
    return texts


def read_extra(path: str, labels: list[str], data: Path) -> dict[str, pd.DataFrame]:
    """File name -> its rows (from its columns `text` and `label`) that are not in the splits in `data`.

    Args:
        path: a file, or a folder of files.

    Raises:
        InputError: a file cannot be used, holds nothing new, or has the same name as another.
    """
    frames: dict[str, pd.DataFrame] = {}
    for file in _files(path, SUFFIXES, "evaluate.extra"):
        name = file.stem
        if name in frames:
            raise InputError(f"params.yaml: evaluate.extra: two files are called {name}; rename one")
        if name in SPLITS:
            raise InputError(f"params.yaml: evaluate.extra: {file}: {name} is the name of a split; rename it")
        frames[name] = unseen(read_labelled(str(file), labels, lambda _: "evaluate.extra"), data)
        if frames[name].empty:
            raise InputError(f"{file}: every text is in the prepared data already (evaluate.extra)")
    return frames


def read_labelled(
    path: str, labels: list[str], key: Callable[[str], str], text_column: str = "text", label_column: str = "label"
) -> pd.DataFrame:
    """The rows of a labelled file, or of a folder of them; see `readers.read_files`.

    Args:
        labels: names in id order, of which every row has one.
        key: maps `path`, `text_column`, `label_column` and `labels` to what the user set, for errors.
    """
    columns = FilesParams(
        path=path,
        labels=labels,
        text_column=text_column,
        label_column=label_column,
        source_column=None,
        phenomenon_column=None,
    )
    return read_files(columns, key)


def unseen(frame: pd.DataFrame, data: Path) -> pd.DataFrame:
    """The rows of `frame` whose text is in none of the prepared splits in `data`."""
    prepared = {normalise(text) for name in SPLITS for text in read_split(data, name)["text"]}
    return frame[~frame["text"].map(normalise).isin(prepared)].reset_index(drop=True)
