"""The commands of `fincompress remote`: where checkpoints are kept."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fincompress.core.errors import InputError

app = typer.Typer(no_args_is_help=True, help="Where checkpoints are kept: `dvc push` and `dvc pull` go there.")


@app.command()
def drive(
    folder_id: Annotated[str | None, typer.Option(help="The folder's id, or its address in the browser.")] = None,
    folder: Annotated[str | None, typer.Option(help="Path of a folder: in My Drive, or below --folder-id.")] = None,
    client_id: Annotated[str | None, typer.Option(help="Id of your OAuth client; its secret is asked for.")] = None,
    client_secret: Annotated[str | None, typer.Option(envvar="GDRIVE_CLIENT_SECRET", help="Rather left out.")] = None,
    service_account: Annotated[Path | None, typer.Option(help="JSON key of a service account.")] = None,
    name: Annotated[str, typer.Option(help="Name of the remotes.")] = "drive",
    check: Annotated[bool, typer.Option(help="Sign in, and write and read a file, before anything is saved.")] = True,
) -> None:
    """Keep checkpoints in a Google Drive folder, and make that the default."""
    from fincompress.cli import remotes

    root = remotes.project_root()
    try:
        _, before = remotes.configured(root, name)
    except InputError:
        before = {}
    if client_id and not client_secret and not remotes.known_secret(before, client_id) and sys.stdin.isatty():
        client_secret = typer.prompt("Client secret", hide_input=True)
    made = remotes.drive_remote(root, folder_id, folder, client_id, client_secret, service_account, before)
    if check:
        _check_access(made.settings)
    remotes.save(root, name, made)
    print(f".dvc/config: `{name}` is the default remote; commit it: git add .dvc/config && git commit")
    for key in made.private:
        print(f".dvc/config.local: {key}, which Git ignores: it stays on this machine")
    print("next: dvc push")


@app.command()
def local(
    folder: Annotated[Path, typer.Argument(help="A folder outside the project, on any mounted disk.")],
    name: Annotated[str, typer.Option(help="Name of the remotes.")] = "local",
) -> None:
    """Keep checkpoints in a folder on this machine, and make that this machine's default."""
    from fincompress.cli import remotes

    root, folder = remotes.project_root(), folder.expanduser().resolve()
    if folder.is_relative_to(root.resolve()):
        raise InputError(f"{folder} is inside the project, and would be lost with it: name a folder elsewhere")
    remotes.save(root, name, remotes.Remote(shared={}, private={"url": str(folder)}))
    print(f".dvc/config.local: `{name}`, {folder}, is the default remote on this machine\nnext: dvc push")


@app.command()
def check(
    name: Annotated[str | None, typer.Argument(help="The remote; without it, the default one.")] = None,
) -> None:
    """Find out why `dvc push` or `dvc pull` fails with a Drive remote, and how to fix it."""
    from fincompress.cli import remotes

    name, settings = remotes.configured(remotes.project_root(), name)
    if not settings["url"].startswith("gdrive://"):
        raise InputError(f"`{name}` is at {settings['url']}; only a remote on Google Drive (gdrive://…) can be checked")
    _check_access(settings)


def _check_access(settings: dict) -> None:
    from fincompress.cli.drive import check_access

    check_access(settings)
    print(f"{settings['url']}: signed in, wrote a file, read it back and put it in the trash")
