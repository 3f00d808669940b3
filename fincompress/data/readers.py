"""Read the user's files of labelled texts, one or a folder of them, and name every bad row."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from fincompress.core.errors import InputError
from fincompress.data.tables import SUFFIXES, cell_text, read_rows

if TYPE_CHECKING:  # serving reads rows without either
    import pandas as pd

    from fincompress.core.data_sections import FilesParams

COLUMNS = ["id", "text", "label", "source", "phenomenon"]
SPLIT_NAMES = {"train": "train", "val": "val", "test": "test", "valid": "val", "validation": "val", "dev": "val"}
"""What a split may be called in a file -> its name here."""
_FIRST_WORD = re.compile("[a-z]+")
_WHOLE_NUMBER = re.compile(r"(-?\d+)(?:\.0*)?")


def read_files(params: "FilesParams", key: Callable[[str], str] = "prepare.files.{}".format) -> "pd.DataFrame":
    """Read labelled texts from CSV, TSV, JSONL or Parquet files, or from every such file in a folder.

    Args:
        key: maps a parameter's name to its key in params.yaml, for errors.

    Returns:
        The columns `COLUMNS`, all strings; also `group` where `group_column` is set, and `split` (train, val or test)
        where `split_column` or `files_are_splits` is.

    Raises:
        InputError: names the file and row that cannot be used.
    """
    import pandas as pd

    files = _named_files(Path(params.path), key)
    rows = [row for file, name in files.items() for row in _labelled_rows(file, name, params, key)]
    if not rows:
        raise InputError(f"{params.path}: no rows ({key('path')})")
    return pd.DataFrame(rows)


def _named_files(path: Path, key: Callable[[str], str]) -> dict[Path, str]:
    """The files that a path stands for, each with a name of its own: the path below the folder.

    The name has no suffix, unless files differ in nothing else. A single file is called by its stem.
    """
    if path.is_file():
        return {path: path.stem}
    if not path.is_dir():
        raise InputError(f"{path}: not found ({key('path')})")
    shown = (file for file in path.rglob("*") if not any(part.startswith(".") for part in file.relative_to(path).parts))
    files = sorted(file for file in shown if file.suffix.lower() in SUFFIXES and file.is_file())
    if not files:
        raise InputError(f"{path}: holds no {', '.join(SUFFIXES)} file ({key('path')})")
    plain = [file.relative_to(path).with_suffix("").as_posix() for file in files]
    return {
        file: name if plain.count(name) == 1 else file.relative_to(path).as_posix()
        for file, name in zip(files, plain, strict=True)
    }


def _labelled_rows(file: Path, name: str, params: "FilesParams", key: Callable[[str], str]) -> Iterator[dict[str, str]]:
    """The configured columns of every row of a file, by the names of `COLUMNS`.

    Args:
        name: what ids begin with, and where the rows come from if no column says so.
    """
    split = {"split": _split_of_name(file, name, key)} if params.files_are_splits else {}
    encoding_key = key("encoding") if key("encoding").endswith(".encoding") else None
    rows = read_rows(file, params.encoding, params.header, may_be_empty=True, encoding_key=encoding_key)
    for where, row in rows:
        picked = _labelled_row(f"{file}, {where}", row, params, key)
        if params.source_column is None:
            picked["source"] = name
        yield {"id": f"{name}-{where.split()[-1]}", **picked, **split}


def _split_of_name(file: Path, name: str, key: Callable[[str], str]) -> str:
    """The split of a file that is called, or lies in a folder that is called, train-1, validation or Test."""
    first = _FIRST_WORD.match(name.casefold())
    if first is None or first[0] not in SPLIT_NAMES:
        raise InputError(f"{file}: its name begins with none of train, val and test ({key('files_are_splits')})")
    return SPLIT_NAMES[first[0]]


def _labelled_row(where: str, row: dict, params: "FilesParams", key: Callable[[str], str]) -> dict[str, str]:
    """Pick and check the configured columns of one raw row, all but its id."""

    def value(parameter: str) -> str:
        column = getattr(params, parameter)
        if column is None:
            return ""
        if column not in row:
            found = ", ".join(map(str, row)) or "none"
            raise InputError(f"{where}: no column `{column}` ({key(parameter)}); columns found: {found}")
        return cell_text(row[column], f"{where}, column `{column}`")

    text = value("text_column")
    if not text:
        raise InputError(f"{where}: empty text in column `{params.text_column}`; remove or fill the row")
    label = _label_name(value("label_column"), params.labels)
    if label is None:
        ids = "" if _numbered(params.labels) else f" (or their ids 0 to {len(params.labels) - 1})"
        raise InputError(
            f"{where}: unknown label {row[params.label_column]!r}; {key('labels')} has {', '.join(params.labels)}{ids}"
        )
    source, phenomenon = (" ".join(value(name).split()) for name in ("source_column", "phenomenon_column"))
    picked = {"text": text, "label": label, "source": source, "phenomenon": phenomenon}
    if params.group_column is not None:
        picked["group"] = value("group_column")
    if params.split_column is not None:
        split = value("split_column")
        if split.casefold() not in SPLIT_NAMES:
            raise InputError(f"{where}: unknown split {split!r} ({key('split_column')}); expected train, val or test")
        picked["split"] = SPLIT_NAMES[split.casefold()]
    return picked


def _label_name(value: str, labels: list[str]) -> str | None:
    """The label whose name (in any case) is `value`, or whose id, where no label is named by a number; else None.

    A column of numbers with gaps holds `1.0` for 1, in Parquet as in what pandas writes.
    """
    for form in (str.casefold, _number):
        by_name = {form(label): label for label in labels}
        if form(value) in by_name:
            return by_name[form(value)]
    number = _number(value)
    is_id = number.isdecimal() and int(number) < len(labels) and not _numbered(labels)
    return labels[int(number)] if is_id else None


def _number(value: str) -> str:
    """A whole number without its decimal point; anything else as it is, casefolded."""
    match = _WHOLE_NUMBER.fullmatch(value)
    return match[1] if match else value.casefold()


def _numbered(labels: list[str]) -> bool:
    """Whether a label is named by a number, so that a number in a file is no id."""
    return any(_WHOLE_NUMBER.fullmatch(label) for label in labels)
