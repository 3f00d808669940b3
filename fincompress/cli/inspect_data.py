"""What a file of texts holds, and what stands in the way of learning from it: `fincompress doctor FILE`."""

from collections import Counter
from pathlib import Path
from typing import Any

from fincompress.cli.findings import Finding
from fincompress.core.errors import InputError
from fincompress.core.extras import explained
from fincompress.core.model_files import damage
from fincompress.data.readers import SUFFIXES, read_rows

_TEXT = ("text", "sentence", "content", "review", "headline", "title", "tweet", "message", "body")
_LABEL = ("label", "labels", "sentiment", "class", "category", "target", "intent", "topic")
_MOST_LABELS = 200
_SHOWN = 20
_SHARES = (0.12, 0.30)  # of validation and test, where there is no params.yaml


def examine_file(file: Path) -> list[Finding]:
    """Look at a CSV, TSV, JSONL or Parquet file, or at a .txt file with a text a line.

    Raises:
        InputError: it is another kind of file.
    """
    kind = file.suffix.lower()
    if kind not in (*SUFFIXES, ".txt"):
        raise InputError(
            f"{file}: neither a model folder nor a file of texts ({', '.join((*SUFFIXES, '.txt'))}); name the folder "
            "where it is a file of a model"
        )
    found = [Finding("kind", f"{kind[1:]}, {file.stat().st_size / 1e6:.2f} MB", _plain_damage(file))]
    if kind != ".parquet":
        found.append(_encoding(file))
    if any(finding.mend for finding in found):
        return found
    if kind == ".txt":
        return found + _texts([line.strip() for line in file.read_text(encoding="utf-8-sig").rstrip().split("\n")])
    try:
        with explained():
            rows = [row for _, row in read_rows(file)]
    except InputError as error:
        return [*found, Finding("rows", "cannot be read", str(error))]
    return found + _rows(rows)


def _plain_damage(file: Path) -> str | None:
    what = damage(file)
    return f"{what}; fetch it again" if what else None


def _encoding(file: Path) -> Finding:
    """The encoding of a file of text, by its first bytes and by whether all of it is UTF-8."""
    with file.open("rb") as content:
        start = content.read(4)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return Finding("encoding", "UTF-16", "save it as UTF-8: iconv -f utf-16 -t utf-8")
    try:
        with file.open(encoding="utf-8", newline="") as lines:
            for _ in lines:
                pass
    except UnicodeDecodeError:
        return Finding("encoding", "not UTF-8; Latin-1, perhaps", "save it as UTF-8: iconv -f latin1 -t utf-8")
    return Finding("encoding", "UTF-8 with a byte order mark" if start.startswith(b"\xef\xbb\xbf") else "UTF-8")


def _rows(rows: list[dict]) -> list[Finding]:
    columns = list(dict.fromkeys(str(column) for row in rows for column in row))
    values = {column: [_cell(row.get(column)) for row in rows] for column in columns}
    headless = any(column in cells for column, cells in values.items() if column)
    mend = "the first line looks like a row, not like names of columns: write names above it" if headless else None
    found = [Finding("columns", ", ".join(columns), mend), Finding("rows", f"{len(rows):,}")]
    text = _guessed(_TEXT, columns) or max(columns, key=lambda column: sum(map(len, values[column])))
    found += [Finding("text column", f"{text} (a guess)"), *_texts(values[text])]
    label = _guessed(_LABEL, columns) or _fewest(values, text)
    if label is None:
        mend = "name it in prepare.files.label_column; texts without labels serve as kd.transfer"
        return [*found, Finding("label column", "none that looks like one", mend)]
    return [*found, Finding("label column", f"{label} (a guess)"), *_labels(values[label])]


def _cell(value: Any) -> str:
    return "" if value is None or value != value else str(value).strip()  # NaN differs from itself


def _guessed(names: tuple[str, ...], columns: list[str]) -> str | None:
    """The column of the first of these names, in any case."""
    by_name = {column.casefold(): column for column in columns}
    return next((by_name[name] for name in names if name in by_name), None)


def _fewest(values: dict[str, list[str]], text: str) -> str | None:
    """The column with the fewest values, if they recur as labels would."""
    counts = {column: len(set(cells) - {""}) for column, cells in values.items() if column != text}
    likely = {
        column: count for column, count in counts.items() if 2 <= count <= min(_MOST_LABELS, len(values[column]) / 2)
    }
    return min(likely, key=likely.__getitem__, default=None)


def _texts(texts: list[str]) -> list[Finding]:
    """Texts that are there, empty or alike, and the longest."""
    given = [text for text in texts if text]
    if not given:
        return [Finding("texts", "none", "every one is empty")]
    longest = max(given, key=len)
    again = len(given) - len(set(given))
    empty = len(texts) - len(given)
    return [
        Finding(
            "texts",
            f"{len(given):,}" + (f", {again:,} of them again" if again else ""),
            f"{empty:,} are empty: fill or remove their rows" if empty else None,
        ),
        Finding("longest text", f"{len(longest.split()):,} words, {len(longest):,} characters"),
    ]


def _labels(cells: list[str]) -> list[Finding]:
    """Labels with their counts, and those with too few rows to be split."""
    counts = Counter(cells)
    empty = counts.pop("", 0)
    shown = ", ".join(f"{name} {count:,}" for name, count in counts.most_common(_SHOWN))
    more = f", and {len(counts) - _SHOWN} more" if len(counts) > _SHOWN else ""
    rare = [name for name, count in counts.items() if not _can_be_split(count)]
    mends = [f"{empty:,} rows have none: fill or remove them"] if empty else []
    if rare:
        names = ", ".join(rare[:_SHOWN])
        mends.append(f"too few rows for one each in train, val and test: {names}; add rows, or merge labels")
    if len(counts) < 2:
        mends.append("a classifier needs two labels at least")
    return [Finding("labels", f"{len(counts)}: {shown}{more}", "; ".join(mends) or None)]


def _can_be_split(count: int) -> bool:
    """Whether a label with so many rows gets one in train, val and test."""
    val, test = (round(count * share) for share in _shares())
    return min(val, test, count - val - test) >= 1


def _shares() -> tuple[float, float]:
    """Shares of validation and test rows: of the project in the working directory, or those it would start with."""
    try:
        with explained():
            from fincompress.core.params import read_sections

            split = read_sections(Path("params.yaml"))["prepare"]["split"]
        return float(split["val"]), float(split["test"])
    except (InputError, KeyError, TypeError, ValueError):
        return _SHARES
