"""`fincompress quick`: the whole pipeline on a sample, in a folder of its own, to see it run before the wait.

The folder holds a copy of the code, params.yaml with the changes of quick.yaml, and a DVC project with a cache of its
own, so that nothing of the project around it changes and the next run does only what is outdated.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from fincompress.core.errors import InputError
from fincompress.core.files import atomic_file

CODE = ("fincompress", "stages")
PATHS = ("path", "transfer", "extra")
"""Keys of params.yaml whose values are paths, whether or not they have a slash."""
CONFIG = "[core]\n    analytics = false\n    no_scm = true\n"


def quick(
    targets: Annotated[list[str] | None, typer.Argument(help="Stages; without any, all of dvc.yaml.")] = None,
    folder: Annotated[Path, typer.Option(help="Where it runs.")] = Path("quick"),
    changes: Annotated[Path, typer.Option(help="The keys of params.yaml that are changed.")] = Path("quick.yaml"),
) -> None:
    """Run the pipeline on a small sample in a folder of its own, in minutes; what is up to date is not run again."""
    start = time.monotonic()
    prepare_folder(folder, changes)
    _python(folder, "dvc", "repro", *(targets or []))
    if not targets:
        _python(folder, "fincompress", "results")
    print(f"\nquick: {time.monotonic() - start:.0f} s; scores on so few rows mean little")
    for path, title in (("plots/report.html", "the report page"), ("metrics", "the records"), ("models", "the models")):
        if (folder / path).exists():
            print(f"  {folder / path}: {title}")


def prepare_folder(folder: Path, changes: Path) -> None:
    """Copy code, dvc.yaml and the changed params.yaml of the working directory into `folder`, a DVC project.

    Raises:
        InputError: the working directory is no project, `folder` is something else, or a change cannot be made.
    """
    from fincompress.core.params import checked_params

    root = Path.cwd()
    if missing := [name for name in (*CODE, "dvc.yaml", "params.yaml") if not (root / name).exists()]:
        raise InputError(f"no {', '.join(missing)} here; run from the project's folder")
    config = folder / ".dvc/config"
    if folder.exists() and any(folder.iterdir()) and not (config.is_file() and config.read_text() == CONFIG):
        raise InputError(f"{folder}: holds something else; name a new folder (--folder)")
    config.parent.mkdir(parents=True, exist_ok=True)
    config.write_text(CONFIG, encoding="utf-8")
    for name in CODE:
        shutil.rmtree(folder / name, ignore_errors=True)
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy2(root / "dvc.yaml", folder / "dvc.yaml")
    _write_params(root, folder / "params.yaml", changes)
    checked_params(folder / "params.yaml")


def _write_params(root: Path, target: Path, changes: Path) -> None:
    """Write the project's params with `changes`, and with paths into the project that hold from another folder."""
    from ruamel.yaml import YAML

    yaml = YAML()
    content = yaml.load(root / "params.yaml")
    for section, keys in _changes(changes).items():
        for key, value in keys.items():
            if key not in content.get(section, {}):
                raise InputError(f"{changes}: {section}.{key}: params.yaml has no such key")
            content[section][key] = value
    for holder, key in _strings(content):
        path = Path(holder[key])
        if ("/" in holder[key] or key in PATHS) and path.parts[0] not in CODE and (root / path).exists():
            holder[key] = str(root / path)
    with atomic_file(target) as path:
        yaml.dump(content, path)


def _changes(path: Path) -> dict[str, dict]:
    """Section of params.yaml -> the keys that are changed and their values."""
    from fincompress.core.params import read_sections

    content = read_sections(path, absent="it holds the keys of params.yaml that are changed")
    for section, keys in content.items():
        if not isinstance(keys, dict):
            raise InputError(f"{path}: {section}: expected keys such as `epochs:`, found {type(keys).__name__}")
    return content


def _strings(content: Any) -> Iterator[tuple[Any, Any]]:
    """(mapping or list, key or index) of every string in a YAML document."""
    for key in content if isinstance(content, dict) else range(len(content)):
        if isinstance(content[key], str):
            yield content, key
        elif isinstance(content[key], dict | list):
            yield from _strings(content[key])


def _python(folder: Path, *arguments: str) -> None:
    """Run `python -m` in `folder`, with this interpreter also as the `python` of the stages."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    ended = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env={**os.environ, "PATH": path})
    if ended.returncode:
        raise typer.Exit(ended.returncode)
