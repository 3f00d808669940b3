"""Atomic writes: a file or folder appears whole or not at all, and only the main one of several processes writes it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fincompress.core.errors import InputError
from fincompress.core.processes import is_main


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; move it into place when the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)  # mkstemp's 0600 would differ from what Git and DVC check out
        if is_main():
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; it replaces `path` when the block succeeds."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}-"))
    try:
        yield temporary
        temporary.chmod(0o755)
        if is_main():
            if path.exists():
                shutil.rmtree(path)
            os.replace(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_new(folder: Path) -> None:
    """Raise an error if writing the folder would replace a file, or a folder that is not empty."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: exists already; name a new folder")


def remove_folder(path: Path) -> None:
    """Remove a folder and everything in it."""
    if is_main():
        shutil.rmtree(path)


def write_text(path: Path, content: str) -> None:
    """Write `content` as UTF-8, atomically."""
    with atomic_file(path) as temporary:
        temporary.write_text(content, encoding="utf-8")


def write_json(path: Path, content: dict) -> None:
    """Write `content` as indented UTF-8 JSON, atomically."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_csv(path: Path, rows: Any) -> None:
    """Write a frame, or rows that make one, as CSV without an index, atomically."""
    import pandas as pd

    with atomic_file(path) as temporary:
        pd.DataFrame(rows).to_csv(temporary, index=False, lineterminator="\n")


def read_json(path: Path) -> dict:
    """Read a UTF-8 JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def checksums(files: list[Path]) -> dict[str, str]:
    """Name -> SHA-256 of each file."""
    return {file.name: checksum(file) for file in sorted(files)}


def digest(content: Any) -> str:
    """A hash over what JSON can say; what it cannot counts by its `str`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()


def digest_of_files(paths: Iterable[Path], root: Path) -> str:
    """A hash over the names, below `root`, and the bytes of some files; a folder stands for all files in it."""
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    return digest([[os.path.relpath(file, root), checksum(file)] for file in sorted(files)])


def folder_bytes(path: Path) -> int:
    """Bytes of all files under `path`."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
