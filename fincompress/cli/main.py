"""The command `fincompress`: everything besides running the pipeline, which `dvc` does."""

import sys

import typer

from fincompress.cli import choose, doctor, quick, remote, serve, show, use
from fincompress.core.errors import InputError, disk_explained
from fincompress.core.extras import explained

app = typer.Typer(no_args_is_help=True, pretty_exceptions_enable=False, help=__doc__)
for command in (
    use.predict,
    use.compare,
    use.export,
    use.quantize,
    serve.serve,
    show.demo,
    show.space,
    doctor.doctor,
    quick.quick,
    choose.results,
    choose.select,
    choose.seeds,
):
    app.command()(command)
app.add_typer(remote.app, name="remote")


def main() -> None:
    """Run the command line; a mistake that the user can fix is one line on standard error and exit code 2."""
    try:
        with explained(), disk_explained():
            app()
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
