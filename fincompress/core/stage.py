"""How a stage's command runs: Typer for its options, one clear line for any mistake that the user can fix."""

import functools
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from fincompress.core import processes
from fincompress.core.errors import InputError, disk_explained


def run(command: Callable[..., None], trains: bool = False) -> None:
    """Run a stage's command line.

    An :class:`InputError`, and what the disk refuses, is printed as one message on standard error and exits with 2;
    Ctrl-C exits with 130 and says that the work will resume. Anything else is a bug and keeps its traceback.

    Args:
        trains: the stage trains, and may do so in several processes (see `core.processes`).
    """

    @functools.wraps(command)
    def guarded(**options: Any) -> None:
        try:
            if trains and processes.is_member():
                processes.join()
            elif trains and (count := processes.wanted()) > 1:
                raise typer.Exit(processes.launch(count, _running_module(), sys.argv[1:]))
            else:
                # only the first GPU: if it sees several, Trainer enlarges the batches
                os.environ["CUDA_VISIBLE_DEVICES"] = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
            with disk_explained():
                command(**options)
        except InputError as error:
            if processes.is_main():
                print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            if not processes.is_member():  # otherwise the process that started it says so
                print("interrupted; `dvc repro` takes training up again at its last finished epoch", file=sys.stderr)
            raise typer.Exit(130) from None
        finally:
            processes.leave()

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded)
    app()


def _running_module() -> str:
    """The module that `python -m` was given."""
    spec = sys.modules["__main__"].__spec__
    if spec is None:
        raise RuntimeError("a stage that trains in several processes must be run by `python -m`")
    return spec.name
