"""How a stage's command is run: Typer for its options, one clear line for what the user can mend."""

import functools
import sys
from collections.abc import Callable

import typer

from fincompress.errors import InputError


def run(command: Callable[..., None]) -> None:
    """Run a stage's command line.

    An :class:`InputError` is printed as one message on standard error and exits with 2; Ctrl-C exits
    with 130 and says that the work resumes. Anything else is a bug and keeps its traceback.
    """

    @functools.wraps(command)
    def guarded(**options) -> None:
        try:
            command(**options)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("interrupted; `dvc repro` takes training up again at its last finished epoch", file=sys.stderr)
            raise typer.Exit(130) from None

    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(guarded)
    app()
