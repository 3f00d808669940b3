"""A project's DVC remotes: shared settings go to .dvc/config, secrets to .dvc/config.local."""

import subprocess
from dataclasses import dataclass, field
from pathlib import Path

from dvc.config import Config, ConfigError
from dvc.exceptions import NotDvcRepoError
from dvc.repo import Repo

from fincompress.cli import drive
from fincompress.core.errors import InputError


@dataclass(frozen=True)
class Remote:
    """A remote's section of DVC's configuration, in its two parts."""

    shared: dict  # in .dvc/config, which Git tracks
    private: dict = field(default_factory=dict)  # in .dvc/config.local, which Git ignores

    @property
    def settings(self) -> dict:
        return {**self.shared, **self.private}


def project_root() -> Path:
    """The top folder of the DVC project around the working directory."""
    try:
        return Path(Repo.find_root())
    except NotDvcRepoError:
        raise InputError("not inside a DVC project; change into the folder with dvc.yaml") from None


def configured(root: Path, name: str | None = None) -> tuple[str, dict]:
    """The name and the settings of a remote, including secrets; of the default remote if `name` is None.

    Raises:
        InputError: there is no such remote, or DVC cannot read its configuration.
    """
    config = _configuration(root)
    name = name or config["core"].get("remote")
    if name is None or name not in config["remote"]:
        known = ", ".join(sorted(config["remote"])) or "none"
        raise InputError(f".dvc/config: no remote `{name}` (there is: {known})" if name else ".dvc/config: no default")
    return name, dict(config["remote"][name])


def _configuration(root: Path) -> Config:
    try:
        return Config(dvc_dir=str(root / ".dvc"))
    except ConfigError as error:
        raise InputError(f".dvc/config: {error}") from None


def save(root: Path, name: str, remote: Remote) -> None:
    """Write a remote, replacing what was set under its name, and make it the default.

    A remote without a shared part exists only on this machine, and is the default only there.
    """
    config = _configuration(root)
    if remote.shared:
        with config.edit("repo") as content:
            content["remote"][name] = remote.shared
            content["core"]["remote"] = name
    with config.edit("local") as content:
        content["remote"].pop(name, None)
        content["core"].pop("remote", None)  # it would override the shared default
        if remote.private:
            content["remote"][name] = remote.private
        if not remote.shared:
            content["core"]["remote"] = name


def drive_remote(
    root: Path,
    folder_id: str | None,
    folder: str | None,
    client_id: str | None,
    client_secret: str | None,
    service_account: Path | None,
    before: dict,
) -> Remote:
    """A Drive folder as a remote, with the account that signs in.

    Args:
        before: the present settings. A client with the same id keeps its secret; if no account is given, the present
            one stays, or the one whose credentials are in the environment.

    Raises:
        InputError: two accounts or none are named, or a key would end up in Git.
    """
    shared = {"url": drive.address(folder_id, folder), "gdrive_acknowledge_abuse": True}
    if client_id and service_account:
        raise InputError("--client-id and --service-account are two accounts: name one")
    if service_account:
        return _as_service_account(root, shared, service_account)
    if client_id:
        return _as_person(shared, client_id, client_secret or known_secret(before, client_id))
    account = drive.environment_account()
    if account == "service":
        return Remote({**shared, "gdrive_use_service_account": True})
    if before.get("gdrive_use_service_account") and before.get("gdrive_service_account_json_file_path"):
        return _as_service_account(root, shared, Path(before["gdrive_service_account_json_file_path"]))
    if before.get("gdrive_client_id"):
        return _as_person(
            shared, before["gdrive_client_id"], client_secret or known_secret(before, before["gdrive_client_id"])
        )
    if account == "user":
        return Remote(shared)
    raise InputError(
        f"name the account that signs in, --client-id or --service-account (Google blocks DVC's own OAuth app); "
        f"a person: {drive.OWN_CLIENT}"
    )


def _as_person(shared: dict, client_id: str, secret: str | None) -> Remote:
    if not client_id.endswith(drive.CLIENT_SUFFIX):
        raise InputError(f"--client-id: {client_id}: a client's id ends in {drive.CLIENT_SUFFIX}")
    if not secret:
        raise InputError(
            "no secret for this OAuth client: set GDRIVE_CLIENT_SECRET, or run this at a terminal to be asked"
        )
    return Remote({**shared, "gdrive_client_id": client_id}, {"gdrive_client_secret": secret})


def known_secret(before: dict, client_id: str) -> str | None:
    """The secret that is already set for an OAuth client; None if this machine has none."""
    return before.get("gdrive_client_secret") if before.get("gdrive_client_id") == client_id else None


def _as_service_account(root: Path, shared: dict, key: Path) -> Remote:
    key = key.expanduser().resolve()
    drive.read_service_account(key)
    if key.is_relative_to(root.resolve()) and not _ignored(root, key):
        raise InputError(f"{key}: Git would take this key with the project; move it out, to your home folder, say")
    path = {"gdrive_service_account_json_file_path": str(key)}
    return Remote({**shared, "gdrive_use_service_account": True}, path)


def _ignored(root: Path, path: Path) -> bool:
    return subprocess.run(["git", "check-ignore", "--quiet", str(path)], cwd=root, check=False).returncode == 0
