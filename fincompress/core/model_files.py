"""The files of a model folder: which hold its weights, and what is wrong with one that is damaged.

Downloads break off, disks fill up, and a clone without Git LFS holds pointers in place of the files. Readers of such
files fail in their own words, or not at all; here it is one line that names the file and the mend.
"""

import json
import pickle
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fincompress.core.errors import InputError

WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")
"""Where a checkpoint's weights may be, in the order in which they are looked for: whole or in parts, new or old."""
AGAIN = "fetch it again"
_POINTER = b"version https://git-lfs"


def damage(file: Path) -> str | None:
    """What is plainly wrong with a file, told by its size, its first bytes and its form; None if nothing is.

    JSON is parsed whole, of safetensors the header is compared with the file's size.
    """
    size = file.stat().st_size
    with file.open("rb") as content:
        start = content.read(256)
    if not start.strip():
        return "empty" if not size else "blank"
    if start.startswith(_POINTER):
        return "a Git LFS pointer in place of the file (`git lfs pull` brings it)"
    if file.suffix == ".json":
        return _json_damage(file)
    if file.suffix == ".safetensors":
        return _safetensors_damage(file)
    if file.suffix == ".xml" and not start.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        return "not XML"
    return None


def check_whole(file: Path) -> None:
    """Raise an error if a file is plainly damaged."""
    if what := damage(file):
        raise InputError(f"{file}: {what}; {AGAIN}")


@contextmanager
def reading(
    *files: Path, by: str, raises: tuple[type[Exception], ...] = (Exception,), mend: str | None = None
) -> Iterator[None]:
    """Whatever goes wrong within, while `by` reads these files, is one line; the damaged file is named if one is found.

    Only for calls into a library that reads files.

    Args:
        raises: what the library may raise for a file that it cannot read; by default anything, since some have no type
            of their own. Others keep their traceback, unless a file is plainly damaged.
        mend: what to do where no file is plainly damaged; by default to fetch them again.
    """
    try:
        yield
    except (InputError, MemoryError, ImportError):
        raise
    except Exception as error:
        for file in files:
            if file.is_file():
                check_whole(file)
        if not isinstance(error, raises):
            raise
        names = " and ".join([str(files[0]), *(file.name for file in files[1:])])
        it, again = ("it", AGAIN) if len(files) == 1 else ("them", "fetch them again")
        raise InputError(f"{names}: {by} cannot read {it}: {_said(error)}; {mend or again}") from None


def _said(error: Exception) -> str:
    """The line of a library's message that says something."""
    if isinstance(error, pickle.UnpicklingError):  # torch's message tells how to run whatever is in the file
        return "it holds something besides weights, of which nothing was run, or is damaged"
    if isinstance(error, KeyError):
        return f"no {error}"
    lines = [line.strip() for line in str(error).splitlines()]
    telling = [
        line for line in lines if line and not line.startswith(("Exception from ", "Check '"))
    ]  # OpenVINO's trace
    return telling[0].rstrip(".:!")[:300] if telling else type(error).__name__


def read_object(file: Path) -> dict:
    """Read a JSON file that holds an object.

    Raises:
        InputError: it cannot be read, is no JSON, or holds something else.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise InputError(f"{file}: not found; a model folder needs it: {AGAIN}") from None
    except OSError as error:
        raise InputError(f"{file}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{file}: {damage(file) or 'not JSON'}; {AGAIN}") from None
    if not isinstance(content, dict):
        raise InputError(f"{file}: holds {type(content).__name__} where an object is expected; {AGAIN}")
    return content


def has_weights(folder: Path) -> bool:
    """Whether a folder holds a checkpoint's weights, in any of the forms that are read."""
    return any((folder / name).is_file() for name in WEIGHTS)


def weight_files(folder: Path) -> list[Path]:
    """The files that hold a checkpoint's weights, safetensors before PyTorch's older format; each is looked over.

    Raises:
        InputError: there are none, a part is missing, or one is plainly damaged.
    """
    first = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if first is None:
        found = ", ".join(sorted(path.name for path in folder.glob("*") if path.is_file())) or "nothing"
        raise InputError(
            f"{folder}: no weights ({WEIGHTS[0]} or {WEIGHTS[2]}, whole or in parts with an index); found {found}"
        )
    files = _parts(first) if first.suffix == ".json" else [first]
    for file in files:
        check_whole(file)
    return files


def _parts(index: Path) -> list[Path]:
    """The files that an index names, in order."""
    places = read_object(index).get("weight_map")
    if not isinstance(places, dict) or not places or not all(isinstance(name, str) for name in places.values()):
        raise InputError(f"{index}: no weight_map, which says where each weight is; {AGAIN}")
    names = sorted(set(places.values()))
    if outside := [name for name in names if Path(name).name != name]:
        raise InputError(f"{index}: names {outside[0]}, which is not a file beside it; {AGAIN}")
    if missing := [name for name in names if not (index.parent / name).is_file()]:
        raise InputError(f"{index}: names {len(names)} files, of which {', '.join(missing)} is missing; fetch it too")
    return [index.parent / name for name in names]


def safetensors_header(file: Path) -> dict[str, dict]:
    """Name -> `dtype`, `shape` and `data_offsets` of every tensor in a safetensors file.

    https://huggingface.co/docs/safetensors: the header's length in eight bytes, the header as JSON, the data.

    Raises:
        ValueError: it has no such header.
    """
    with file.open("rb") as content:
        length = content.read(8)
        if len(length) < 8:
            raise ValueError("too short")
        (count,) = struct.unpack("<Q", length)
        if count > file.stat().st_size - 8:
            raise ValueError("its header goes beyond its end")
        header = json.loads(content.read(count))
    if not isinstance(header, dict):
        raise ValueError("its header is no object")
    return {name: entry for name, entry in header.items() if name != "__metadata__"}


def _safetensors_damage(file: Path) -> str | None:
    try:
        header = safetensors_header(file)
        with file.open("rb") as content:
            start = 8 + struct.unpack("<Q", content.read(8))[0]
        needed = start + max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, KeyError, TypeError, IndexError, RecursionError):
        return "not safetensors, or cut short within its header"
    size = file.stat().st_size
    return f"cut short: {size:,} of {needed:,} bytes" if size < needed else None


def _json_damage(file: Path) -> str | None:
    try:
        json.loads(file.read_text(encoding="utf-8-sig"))
    except json.JSONDecodeError as error:
        return f"not JSON (line {error.lineno}, column {error.colno}: {error.msg})"
    except (ValueError, RecursionError):
        return "not JSON"
    return None
