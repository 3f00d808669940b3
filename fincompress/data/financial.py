"""Financial news: Financial PhraseBank and FiQA-2018 task 1, from local files or from the hub.

Malo et al. 2014, "Good debt or bad debt: Detecting semantic orientations in economic texts" (JASIST 65(4)); Maia et
al. 2018, "WWW'18 Open Challenge: Financial Opinion Mining and Question Answering". Both are for research; read their
licences before shipping a model that was trained on them.
"""

import json
import math
import re
import zipfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd

from fincompress.core import hub
from fincompress.core.data_sections import FiqaParams, PhrasebankParams
from fincompress.core.errors import InputError
from fincompress.core.files import checksums
from fincompress.core.sections import FINANCIAL_LABELS
from fincompress.data.prepared import normalise
from fincompress.data.tables import without_surrogates

PHRASEBANK, FIQA = "financial_phrasebank", "fiqa"
_ARCHIVE = "data/FinancialPhraseBank-v1.0.zip"
_MEMBERS = {"all": "AllAgree", 75: "75Agree", 66: "66Agree", 50: "50Agree"}


def read_financial(phrasebank: PhrasebankParams, fiqa: FiqaParams) -> tuple[pd.DataFrame, dict[str, dict]]:
    """Both data sets as one frame (`id, text, label, source, phenomenon`), uncleaned, and where each came from.

    The origin of a data set is the SHA-256 of every file that was read and, if it was downloaded, the hub's
    repository, revision and commit.

    Raises:
        InputError: a file, line or record cannot be used, or a download failed.
    """
    sentences, phrasebank_origin = read_phrasebank(phrasebank)
    posts, fiqa_origin = read_fiqa(fiqa)
    return pd.concat([sentences, posts], ignore_index=True), {PHRASEBANK: phrasebank_origin, FIQA: fiqa_origin}


def read_phrasebank(params: PhrasebankParams) -> tuple[pd.DataFrame, dict]:
    """Financial PhraseBank from its archive, its unpacked folder or one of its text files; otherwise from the hub.

    The data set on the hub is a script, which `datasets` no longer runs, so its archive is read like a local one.
    """
    if params.path is None:
        snapshot = hub.download(
            params.repository,
            params.revision,
            [_ARCHIVE],
            kind="dataset",
            key="prepare.phrasebank",
            instead="set prepare.phrasebank.path to your copy of FinancialPhraseBank-v1.0.zip",
        )
        path, origin = snapshot.folder / _ARCHIVE, snapshot.origin
        if not path.is_file():
            raise InputError(f"params.yaml: prepare.phrasebank.repository: {params.repository} has no {_ARCHIVE}")
    else:
        path, origin = _existing(params.path, "prepare.phrasebank.path"), {}
    member = f"Sentences_{_MEMBERS[params.agreement]}.txt"
    if path.is_dir():
        found = sorted(file for file in path.rglob(member) if "__MACOSX" not in file.parts)
        if not found:
            raise InputError(f"{path}: holds no {member} (prepare.phrasebank)")
        path = found[0]
    where, content = _archived(path, member) if path.suffix.lower() == ".zip" else (str(path), path.read_bytes())
    rows = [
        (f"{PHRASEBANK}-{number}", text, label, PHRASEBANK, "")
        for number, text, label in _sentences(where, _decoded(content))
    ]
    if not rows:
        raise InputError(f"{where}: no sentences")
    frame = pd.DataFrame(rows, columns=["id", "text", "label", "source", "phenomenon"])
    return frame, {**origin, "files": checksums([path]), "agreement": params.agreement}


def _decoded(content: bytes) -> str:
    """The text of a file that is in Latin-1, as published, or was saved anew as UTF-8."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _archived(path: Path, member: str) -> tuple[str, bytes]:
    """The name and the bytes of a text file in the archive, whichever folder it is in."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist()]
            found = [name for name in names if name.name == member and "__MACOSX" not in name.parts]
            if not found:
                raise InputError(f"{path}: the archive holds no {member} (prepare.phrasebank)")
            return f"{path}, {found[0]}", archive.read(str(found[0]))
    except zipfile.BadZipFile as error:
        raise InputError(f"{path}: not a whole zip archive ({error}); download it again") from None


def _sentences(where: str, content: str) -> Iterable[tuple[int, str, str]]:
    """(line number, text, label) of every line `text@label`."""
    for number, line in enumerate(re.split(r"\r\n|\r|\n", content), start=1):
        if not line.strip():
            continue
        text, _, label = line.rpartition("@")
        label = label.strip().lower()
        if not text.strip() or label not in FINANCIAL_LABELS:
            raise InputError(f"{where}, line {number}: expected `text@label` with one of {', '.join(FINANCIAL_LABELS)}")
        yield number, text.strip(), label


def read_fiqa(params: FiqaParams) -> tuple[pd.DataFrame, dict]:
    """FiQA-2018 from its JSON files, otherwise from the hub: one row per sentence, labelled by its mean score.

    A sentence has a score in [-1, 1] for every target it names, and some occur in several files.
    """
    if params.path is None:
        snapshot = hub.download(
            params.repository,
            params.revision,
            ["README.md", "*.parquet", "*.csv", "*.json", "*.jsonl"],
            kind="dataset",
            key="prepare.fiqa",
            instead="set prepare.fiqa.path to a folder with the original task1_*.json files",
        )
        scored, origin = _hub_scores(snapshot), snapshot.origin
        files = [path for path in snapshot.folder.rglob("*") if path.is_file() and path.name != "README.md"]
    else:
        path, origin = _existing(params.path, "prepare.fiqa.path"), {}
        files = sorted(path.glob("*.json")) if path.is_dir() else [path]
        if not files:
            raise InputError(f"{path}: holds no .json file (prepare.fiqa.path)")
        scored = [row for file in files for row in _json_scores(file)]
    rows = pd.DataFrame(scored, columns=["text", "score"])
    means = rows.groupby(rows["text"].map(normalise), sort=False).agg(text=("text", "first"), score=("score", "mean"))
    label = pd.Series("neutral", index=means.index)
    label[means["score"] > params.positive_above] = "positive"
    label[means["score"] < params.negative_below] = "negative"
    ids = [f"{FIQA}-{number}" for number in range(1, len(means) + 1)]
    frame = pd.DataFrame({"id": ids, "text": means["text"].array, "label": label.array, "source": FIQA})
    return frame.assign(phenomenon=""), {**origin, "files": checksums(files)}


def _hub_scores(snapshot: hub.Snapshot) -> list[tuple[str, float]]:
    """(sentence, score) of every row of every split."""
    return [
        _scored(row["sentence"], row["sentiment_score"], f"{snapshot.title}, split {name}, row {number}")
        for name, rows in hub.read_splits(snapshot, ["sentence", "sentiment_score"], "prepare.fiqa").items()
        for number, row in enumerate(rows, start=1)
    ]


def _json_scores(file: Path) -> list[tuple[str, float]]:
    """(sentence, score) of every target in an original file, `{id: {"sentence", "info": [{"sentiment_score"}]}}`."""
    try:
        records = without_surrogates(json.loads(file.read_text(encoding="utf-8-sig")))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{file}: not JSON in UTF-8: {error}") from None
    if not isinstance(records, dict) or not records:
        raise InputError(f"{file}: expected an object of records by id")
    scored = []
    for key, record in records.items():
        try:
            targets = [(record["sentence"], target["sentiment_score"]) for target in record["info"]]
        except (TypeError, KeyError) as error:
            raise InputError(f"{file}, record {key}: no `sentence` with `info[].sentiment_score` ({error})") from None
        scored += [_scored(text, score, f"{file}, record {key}") for text, score in targets]
    return scored


def _scored(text: Any, score: Any, where: str) -> tuple[str, float]:
    try:
        value = float(score)
    except (TypeError, ValueError):
        value = math.nan
    if not -1 <= value <= 1:
        raise InputError(f"{where}: sentiment_score {score!r} is no number in [-1, 1]")
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"{where}: empty sentence")
    return text.strip(), value


def _existing(path: str, key: str) -> Path:
    if not Path(path).exists():
        raise InputError(f"{path}: not found ({key}); null downloads the data set")
    return Path(path)
