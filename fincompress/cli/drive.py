"""Google Drive as the remote of the checkpoints: an address, a check of access, and what Drive's refusals mean.

DVC itself does the transfers (`dvc push` and `dvc pull`, through dvc-gdrive). This module uses the same client, so if a
check succeeds, a push will too. https://dvc.org/doc/user-guide/data-management/remote-storage/google-drive
"""

import importlib
import io
import json
import os
import re
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.request import getproxies

from fincompress.core import extras
from fincompress.core.errors import InputError

CREDENTIALS = "GDRIVE_CREDENTIALS_DATA"
CLIENT_SUFFIX = ".apps.googleusercontent.com"
OWN_CLIENT = (
    "make an OAuth client of your own (Google Cloud console: enable the Google Drive API, set the consent screen to "
    "`In production`, create a client of type Desktop app) and pass its id as --client-id"
)


def address(folder_id: str | None, folder: str | None) -> str:
    """The `gdrive://` URL of a folder.

    Args:
        folder_id: the folder's id or its address in the browser; None is the top of My Drive.
        folder: path of a folder below it, such as `checkpoints/finbert`.

    Raises:
        InputError: neither is given, or `folder_id` is not an id.
    """
    if not folder_id and not folder:
        raise InputError("name the Drive folder: --folder-id (the last part of its address) or --folder (its path)")
    path = (folder or "").strip("/")
    if not folder_id:
        return f"gdrive://root/{path}"
    found = re.search(r"/folders/([^/?#]+)", folder_id)
    identifier = found[1] if found else folder_id
    if not re.fullmatch(r"[A-Za-z0-9_-]{5,}", identifier):
        raise InputError(
            f"--folder-id: {folder_id}: not a folder id; open the folder in the browser and take what follows /folders/"
        )
    return f"gdrive://{identifier}/{path}".rstrip("/")


def read_service_account(key: Path) -> dict:
    """The content of a service account's JSON key.

    Raises:
        InputError: the file cannot be read, or is not such a key.
    """
    try:
        content = json.loads(key.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{key}: {error.strerror or error} (--service-account)") from None
    except ValueError:
        raise InputError(f"{key}: not JSON; download the key again (IAM, Service accounts, Keys)") from None
    if not isinstance(content, dict) or content.get("type") != "service_account":
        raise InputError(f"{key}: not the key of a service account; an OAuth client's goes to --client-id")
    return content


def environment_account() -> str | None:
    """Whose credentials `GDRIVE_CREDENTIALS_DATA` holds: `user`, `service`, or None if it is not set.

    Raises:
        InputError: it holds something else.
    """
    data = os.environ.get(CREDENTIALS)
    if not data:
        return None
    try:
        content = json.loads(data)
    except ValueError:
        content = None
    if isinstance(content, dict) and content.get("type") == "service_account":
        return "service"
    if isinstance(content, dict) and "refresh_token" in content:
        return "user"
    raise InputError(
        f"{CREDENTIALS} holds neither a service account's JSON key nor a person's credentials (the file "
        "default.json that signing in writes); set it to the whole content of the one or the other"
    )


def check_access(settings: dict) -> None:
    """Sign in; then write, read back and trash a small file in the remote's folder, as a push and a pull would.

    Args:
        settings: the remote's section of DVC's configuration, `url` and the `gdrive_…` keys.

    Raises:
        InputError: any of that fails; the message says why and how to fix it.
    """
    _require_client()
    if environment_account() is None and not _has_account(settings):
        raise InputError(
            "no account to sign in with, and Google blocks the OAuth app that dvc-gdrive falls back to; " + OWN_CLIENT
        )
    from dvc_gdrive import GDriveFileSystem

    # Whoever may trash a file may not always delete it (a Content manager of a shared drive); a push deletes nothing.
    filesystem = GDriveFileSystem(**{**settings, "gdrive_trash_only": True})
    probe = f"{filesystem._strip_protocol(settings['url'])}/fincompress-check-{uuid.uuid4().hex[:12]}"
    content = probe.encode()
    try:
        filesystem.fs.upload_fobj(io.BytesIO(content), probe)
        try:
            with filesystem.fs.open(probe, "rb") as stream:
                arrived = stream.read()
        finally:
            filesystem.fs.rm_file(probe)
    except Exception as error:  # pydrive2, oauth2client and httplib2 have no common base class
        raise InputError(f"{settings['url']}: {explain(error, settings)}") from error
    if arrived != content:
        raise InputError(f"{settings['url']}: a test file came back with other bytes than were sent; try again")


def explain(error: Exception, settings: dict) -> str:
    """What a failure of the Drive client means and how to fix it, in a sentence or two.

    Args:
        settings: the remote's section of DVC's configuration.
    """
    chain = list(_chain(error))
    text = " ".join(str(link) for link in chain)
    reasons = {link.GetField("reason") for link in chain if hasattr(link, "GetField")}
    if isinstance(error, FileNotFoundError | PermissionError):
        reasons.add("notFound")  # dvc-gdrive's own wording
    for wanted, message in _refusals(settings):
        if wanted & reasons or any(phrase in text for phrase in wanted):
            return message
    kinds = {type(link).__name__ for link in chain}
    if kinds & {"ServerNotFoundError", "ConnectionRefusedError", "TimeoutError", "ProxyError", "gaierror"}:
        return "Drive cannot be reached: check the network, and HTTPS_PROXY where there is a proxy"
    return f"{type(chain[-1]).__name__}: {chain[-1]}"


def _refusals(settings: dict) -> list[tuple[set[str], str]]:
    """(API reasons or parts of messages, what to say about them)."""
    return [
        (
            {"notFound"},
            "no such folder, or this account may not see it: create it in Drive, check its name or id, and share it "
            f"with {_account(settings)}",
        ),
        (
            {"Service Accounts do not have storage quota"},
            "a service account has no storage of its own: use a folder of a Workspace shared drive of which it is a "
            "member (Content manager), or sign in as a person with --client-id",
        ),
        (
            {"storageQuotaExceeded", "quotaExceeded", "teamDriveFileLimitExceeded"},
            "the Drive is full: empty its trash, remove old checkpoints (`dvc gc --workspace --cloud`), or use another "
            "folder; nothing is lost here, `dvc push` goes on where it stopped",
        ),
        (
            {"userRateLimitExceeded", "rateLimitExceeded", "dailyLimitExceeded"},
            "Drive asks to slow down, after 16 attempts: wait some minutes and push with fewer jobs (`dvc push -j 1`)",
        ),
        (
            {"accessNotConfigured"},
            "the Google Drive API is off in the project that the OAuth client or service account belongs to: enable it "
            "in the Google Cloud console (APIs & Services, Library) and wait a minute",
        ),
        (
            {"cannotDownloadAbusiveFile"},
            "Drive took a file for malware, as it does with some binary files: your own files may be downloaded all "
            "the same, `dvc remote modify drive gdrive_acknowledge_abuse true`",
        ),
        (
            {"insufficientFilePermissions", "insufficientPermissions", "insufficientParentPermissions"},
            f"the folder may be read but not written: share it with {_account(settings)} as Editor (in a shared drive: "
            "Content manager)",
        ),
        (
            {"invalid_grant", "No refresh_token found"},
            "the sign-in has expired or was revoked: tokens of an OAuth app in `Testing` last 7 days, so set its "
            f"consent screen to `In production`; then remove {_token_file(settings)} and sign in again",
        ),
        (
            {"invalid_client", "unauthorized_client"},
            "Google does not know this OAuth client by this secret: check both (Google Cloud console, Credentials); in "
            "a new clone, where the secret is not, `dvc remote modify --local drive gdrive_client_secret …`",
        ),
        (
            {"User rejected authentication", "access_denied"},
            "signing in was refused: where the OAuth app is in `Testing`, add the account as a test user or set the "
            "consent screen to `In production`",
        ),
        (
            {"GDRIVE_NON_INTERACTIVE", "Failed to start a local web server", "could not locate runnable browser"},
            "there is nobody to sign in here: sign in on a machine with a browser and set "
            f"{CREDENTIALS} to the content of {_token_file(settings)} there",
        ),
        (
            {"CERTIFICATE_VERIFY_FAILED"},
            "the certificate of Drive, or of a proxy before it, is not trusted: set HTTPLIB2_CA_CERTS to a file with "
            "your proxy's authority",
        ),
    ]


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _account(settings: dict) -> str:
    if settings.get("gdrive_use_service_account"):
        key = settings.get("gdrive_service_account_json_file_path")
        data = os.environ.get(CREDENTIALS)
        content = json.loads(data) if data else read_service_account(Path(key)) if key else {}
        return f"the service account {content.get('client_email', '')}".strip()
    return "the account that signed in"


def _token_file(settings: dict) -> str:
    """Where dvc-gdrive keeps a user's sign-in."""
    if os.environ.get(CREDENTIALS):
        return f"what {CREDENTIALS} holds"
    if settings.get("gdrive_user_credentials_file"):
        return settings["gdrive_user_credentials_file"]
    import appdirs

    profile = settings.get("profile", "default")
    return f"{appdirs.user_cache_dir('pydrive2fs', appauthor=False)}/{settings.get('gdrive_client_id')}/{profile}.json"


def _has_account(settings: dict) -> bool:
    return bool(settings.get("gdrive_client_id") or settings.get("gdrive_use_service_account"))


def _require_client() -> None:
    """Name what the Drive client lacks here, before it fails with an obscure error or hangs behind a proxy."""
    needed = {"dvc_gdrive": "dvc-gdrive"}
    if getproxies().get("https"):
        needed["socks"] = "PySocks"  # without it, httplib2 silently bypasses the proxy
    for module, package in needed.items():
        try:
            importlib.import_module(module)
        except ImportError:
            behind = ", which reaches Drive through the proxy in HTTPS_PROXY" if module == "socks" else ""
            raise InputError(f"{package}{behind} is not installed: {extras.command('drive')}") from None
