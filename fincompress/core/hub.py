"""Downloads from the Hugging Face hub: a pinned revision into the shared cache, or one clear error.

`HF_ENDPOINT`, `HF_HOME`, `HF_HUB_OFFLINE` and `HF_TOKEN` work as huggingface_hub documents them. An interrupted
download continues where it stopped.
"""

from dataclasses import dataclass
from pathlib import Path

import httpx2
from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from fincompress.core.errors import InputError


@dataclass(frozen=True)
class Snapshot:
    """Files of one commit of a hub repository."""

    folder: Path
    repository: str
    revision: str  # as requested: a branch, a tag or a commit
    commit: str  # that the revision resolved to

    @property
    def title(self) -> str:
        """How error messages refer to a data set."""
        return f"the data set `{self.repository}` at {self.commit}"

    @property
    def origin(self) -> dict[str, str]:
        """What a later run needs to get the same files."""
        return {"repository": self.repository, "revision": self.revision, "commit": self.commit}


def download(repository: str, revision: str, patterns: list[str], *, kind: str, key: str, instead: str) -> Snapshot:
    """Fetch the files of a repository that match `patterns`, or find them in the cache.

    Args:
        kind: `model` or `dataset`.
        key: the section of params.yaml that holds `revision`, for errors.
        instead: how to manage without the hub, for errors.

    Raises:
        InputError: what was tried, why it failed, and how to fix it.
    """
    try:
        folder = Path(snapshot_download(repository, repo_type=kind, revision=revision, allow_patterns=patterns))
    except (HFValidationError, HfHubHTTPError, LocalEntryNotFoundError, httpx2.HTTPError, OSError) as error:
        raise InputError(
            f"params.yaml: {key}: cannot download the {kind} `{repository}` (revision `{revision}`) from "
            f"{constants.ENDPOINT}: {_reason(error, key)}; or {instead}"
        ) from None
    return Snapshot(folder, repository, revision, folder.name)


def read_splits(snapshot: Snapshot, columns: list[str], key: str) -> dict[str, list[dict]]:
    """The rows of every split of a downloaded data set, with `columns`.

    Raises:
        InputError: it cannot be read, or a split lacks a column.
    """
    import datasets  # imported here because it takes a second and only data sets need it

    datasets.disable_progress_bars()
    try:
        splits = datasets.load_dataset(str(snapshot.folder))
    except (datasets.exceptions.DatasetsError, OSError, ValueError) as error:
        raise InputError(f"{snapshot.title} cannot be read: {str(error).strip().splitlines()[0]} ({key})") from None
    for name, rows in splits.items():
        if missing := ", ".join(sorted(set(columns) - set(rows.column_names))):
            found = ", ".join(rows.column_names)
            raise InputError(f"{snapshot.title}: split {name} has no column {missing}; found {found}")
    return {name: rows.select_columns(columns).to_list() for name, rows in splits.items()}


def _reason(error: BaseException, key: str) -> str:
    """Why a download failed and what would fix it."""
    if isinstance(error, LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # if the hub does not answer, the client looks in its cache and finds nothing
    if isinstance(error, HFValidationError):
        return "that is not the name of a repository (`owner/name`)"
    if isinstance(error, RevisionNotFoundError):
        return f"it has no such revision; set {key}.revision to a branch, a tag or a commit that it has"
    if isinstance(error, GatedRepoError):
        return "its owner grants access on request; ask on its page, then run `hf auth login` or set HF_TOKEN"
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, RepositoryNotFoundError) or status == 401:
        return f"not found, or private (HTTP {status}); check the name, and run `hf auth login` or set HF_TOKEN"
    if isinstance(error, HfHubHTTPError):
        return f"the hub answered HTTP {status}; try again later, finished parts are kept"
    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set and the files are not in the cache; unset it once to fetch them"
    return f"{type(error).__name__}: {str(error).strip().splitlines()[0]}; try again, finished parts are kept"
