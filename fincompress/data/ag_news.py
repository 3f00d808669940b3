"""AG News (Zhang et al. 2015, arXiv:1509.01626): four topics of news, from local CSV files or from the hub.

The official test set is kept whole. AG News is for research; read its licence before shipping a model.
"""

import csv
import html
import re
from pathlib import Path

import pandas as pd

from fincompress.core import hub
from fincompress.core.data_sections import AgNewsParams, FilesParams
from fincompress.core.errors import InputError
from fincompress.core.files import checksums
from fincompress.core.sections import AG_NEWS_LABELS
from fincompress.data.readers import COLUMNS, read_files

SOURCE = "ag_news"
_LOST_AMPERSAND = re.compile(r"(?<!&)\b(quot|amp|lt|gt|nbsp);|(?<!&)(#\d+);")
_TAG = re.compile(r"</?[A-Za-z][^<>]*>")
_SPACE_BEFORE_APOSTROPHE = re.compile(r"(?<=\w) (?=#39;)")


def read_ag_news(params: AgNewsParams) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, dict]]:
    """The training rows, the official test rows (both with the columns `COLUMNS`), and where they came from.

    Raises:
        InputError: a file or row cannot be used, or a download failed.
    """
    if params.path is None:
        instead = "set prepare.path to a folder with AG News' train.csv and test.csv"
        patterns = ["README.md", "*.parquet"]
        snapshot = hub.download(
            params.repository, params.revision, patterns, kind="dataset", key="prepare", instead=instead
        )
        splits, origin = _hub_rows(snapshot), snapshot.origin
        files = [path for path in snapshot.folder.rglob("*.parquet") if path.is_file()]
    else:
        files = [Path(params.path) / f"{name}.csv" for name in ("train", "test")]
        for file in files:
            if not file.is_file():
                raise InputError(f"{file}: not found (prepare.path); null downloads the data set")
        splits, origin = {file.stem: _local_rows(file) for file in files}, {}
    train, test = (splits[name].assign(text=splits[name]["text"].map(mend)) for name in ("train", "test"))
    return train, test, {SOURCE: {**origin, "files": checksums(files)}}


def mend(text: str) -> str:
    """`text` without the remains of HTML in the published files: tags, entities and escaped newlines.

    Those files have `world #39;s` for `world's`, ` quot;` for a quotation mark, backslashes at line ends, and links.
    """
    text = _LOST_AMPERSAND.sub(r"&\1\2;", _SPACE_BEFORE_APOSTROPHE.sub("", text))
    text = text.replace("\\$", "$").replace("\\n", " ").replace("\\", " ")
    return " ".join(_TAG.sub(" ", html.unescape(html.unescape(text))).split())


def _local_rows(file: Path) -> pd.DataFrame:
    """A file in the official form (class 1 to 4, title, description, no header), or with columns `text` and `label`."""
    with file.open(encoding="utf-8-sig", newline="") as lines:
        try:
            first = next(csv.reader(lines), [])
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{file}: not CSV in UTF-8: {error}") from None
    if not first or not first[0].strip().isdecimal():
        labelled = FilesParams(
            path=str(file),
            text_column="text",
            label_column="label",
            source_column=None,
            phenomenon_column=None,
            labels=AG_NEWS_LABELS,
        )
        return read_files(labelled, key=lambda _: "prepare.path").assign(source=SOURCE)
    rows = []
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, strict=True)
        try:
            for cells in reader:
                rows.append(_official_row(cells, file, reader.line_num))
        except (csv.Error, UnicodeDecodeError) as error:
            raise InputError(f"{file}, line {reader.line_num}: {error}") from None
    return pd.DataFrame(rows, columns=COLUMNS)


def _official_row(cells: list[str], file: Path, line: int) -> list[str]:
    where = f"{file}, line {line}"
    if len(cells) != 3:
        raise InputError(f'{where}: {len(cells)} fields where `"class 1-4","title","description"` has 3')
    label, title, description = (cell.strip() for cell in cells)
    if label not in {"1", "2", "3", "4"}:
        raise InputError(f"{where}: unknown class {label!r}; expected 1 to 4 ({', '.join(AG_NEWS_LABELS)})")
    text = f"{title} {description}".strip()
    if not text:
        raise InputError(f"{where}: empty text; remove or fill the row")
    return [f"{file.stem}-{line}", text, AG_NEWS_LABELS[int(label) - 1], SOURCE, ""]


def _hub_rows(snapshot: hub.Snapshot) -> dict[str, pd.DataFrame]:
    """The splits `train` and `test`, whose labels are 0 to 3."""
    splits = hub.read_splits(snapshot, ["text", "label"], "prepare")
    frames = {}
    for name in ("train", "test"):
        if not splits.get(name):
            raise InputError(f"{snapshot.title}: no rows in a split {name}; found {', '.join(splits)} (prepare)")
        rows = []
        for number, row in enumerate(splits[name], start=1):
            if row["label"] not in range(len(AG_NEWS_LABELS)) or not str(row["text"]).strip():
                raise InputError(
                    f"{snapshot.title}, split {name}, row {number}: expected a text and a label from 0 to 3, "
                    f"found label {row['label']!r}"
                )
            rows.append([f"{name}-{number}", row["text"], AG_NEWS_LABELS[row["label"]], SOURCE, ""])
        frames[name] = pd.DataFrame(rows, columns=COLUMNS)
    return frames
