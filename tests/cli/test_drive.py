"""Checkpoints on Google Drive: dvc-gdrive itself, unpatched, against a local Drive; and how the remote is set up."""

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project
from drive_server import CLIENT, SHARED, Drive, Faults
from local_server import serving

from fincompress.cli import drive
from fincompress.core.errors import InputError

pytestmark = pytest.mark.e2e
CLIENT_ID, SECRET = CLIENT["client_id"], CLIENT["client_secret"]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with serving(Drive(tmp_path_factory.mktemp("drive"))) as running:
        yield running


@pytest.fixture
def google(server) -> Drive:
    """The server with an empty drive and nothing out of order."""
    server.items.clear()
    server.calls.clear()
    server.faults, server.page_size = Faults(), 1000
    return server


class DriveProject(Project):
    """A project with one checkpoint, whose commands reach the local Drive."""

    google: Drive
    extra: dict[str, str]

    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in super().environment().items() if key != drive.CREDENTIALS}
        return {**kept, **self.google.environment, "XDG_CACHE_HOME": str(self.root.parent / "cache"), **self.extra}

    def fincompress(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", "fincompress", *arguments, check=check)

    def refused(self, *arguments: str) -> str:
        """The one line with which a command of ours ends that cannot do what it should."""
        result = self.fincompress(*arguments, check=False)
        assert result.returncode == 2, result.stdout + result.stderr
        return result.stderr.strip().splitlines()[-1]

    def config(self) -> tuple[str, str]:
        """What is set for everyone, and on this machine alone."""
        files = self.root / ".dvc/config", self.root / ".dvc/config.local"
        return tuple(file.read_text().strip() if file.is_file() else "" for file in files)


@pytest.fixture(scope="module")
def template(tmp_path_factory, checkpoint) -> Path:
    """A DVC project with a checkpoint of five files."""
    root = tmp_path_factory.mktemp("template") / "project"
    shutil.copytree(checkpoint, root / "model")
    shutil.copytree(ROOT / "fincompress", root / "fincompress", ignore=shutil.ignore_patterns("__pycache__"))
    project = Project(root)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("dvc", "init", "--quiet")
    project.run("dvc", "config", "core.analytics", "false")
    project.run("dvc", "add", "--quiet", "model")
    return root


@pytest.fixture
def project(template, tmp_path, google) -> DriveProject:
    """The project with a remote in My Drive, and a person's expired sign-in in the environment."""
    shutil.copytree(template, tmp_path / "project")
    made = DriveProject(tmp_path / "project")
    made.google, made.extra = google, {drive.CREDENTIALS: google.user_credentials()}
    folder = google.make_folder("checkpoints")
    with (made.root / ".dvc/config").open("a") as config:
        config.write(f"    remote = drive\n['remote \"drive\"']\n    url = gdrive://{folder}\n")
    return made


@pytest.fixture
def bare(project) -> DriveProject:
    """The project before any remote is set, and nobody signed in."""
    project.run("dvc", "remote", "remove", "drive")
    project.extra = {}
    return project


def files(folder: Path) -> dict[str, str]:
    """Path of every file below `folder` -> its checksum."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.md5(path.read_bytes()).hexdigest() for path in found}


def round_trip(project: DriveProject) -> None:
    """Push, ask whether all is there, lose everything here, pull; and find the same bytes."""
    before = files(project.root / "model")
    project.run("dvc", "push")
    assert "in sync" in project.run("dvc", "status", "--cloud").stdout
    shutil.rmtree(project.root / ".dvc/cache")
    shutil.rmtree(project.root / "model")
    project.run("dvc", "pull")
    assert files(project.root / "model") == before


def test_a_checkpoint_comes_back_byte_for_byte_and_an_expired_sign_in_is_refreshed(project, google):
    google.page_size = 2  # so that lists come in pages
    round_trip(project)
    assert google.calls["token"] >= 1 and google.calls["upload"] == 1 + len(files(project.root / "model"))
    assert {hashlib.md5(content).hexdigest() for path, content in google.contents().items() if ".dir" not in path} == {
        *files(project.root / "model").values()
    }


@pytest.mark.parametrize(
    "fault",
    [
        {"token_error": "invalid_grant"},
        {"hide": True},
        {"lose_uploads": True},
        {"corrupt_downloads": True},
        *({"always": {call: "insufficientFilePermissions"}} for call in ("list", "get", "folder", "start", "upload")),
        {"always": {"download": "cannotDownloadAbusiveFile"}},
    ],
    ids=str,
)
def test_the_round_trip_fails_where_a_call_misbehaves(project, google, fault):
    google.faults = Faults(**fault)
    with pytest.raises(AssertionError):
        round_trip(project)


def test_an_upload_that_is_cut_off_is_repeated_by_the_next_push_and_nothing_else_is(project, google):
    google.faults.cut_uploads_after = 20_000  # the weights and the tokenizer are larger, the rest is smaller
    failed = project.run("dvc", "push", check=False)
    assert failed.returncode != 0 and "failed to push" in (failed.stdout + failed.stderr)
    whole = dict(google.contents())
    assert whole and all(hashlib.md5(content).hexdigest() == address(path) for path, content in whole.items())
    google.faults.cut_uploads_after = None
    google.calls.clear()
    project.run("dvc", "push")
    assert google.calls["upload"] == len(google.contents()) - len(whole) > 0
    round_trip(project)


def address(path: str) -> str:
    """The checksum that DVC files an object under."""
    return "".join(path.split("/")[-2:]).removesuffix(".dir")


def test_rate_limits_and_server_errors_are_waited_out(project, google):
    google.faults.errors = {
        "list": ["userRateLimitExceeded"],
        "start": ["userRateLimitExceeded", "backendError"],
        "upload": ["userRateLimitExceeded"],
        "download": ["userRateLimitExceeded"],
    }
    round_trip(project)
    assert not any(google.faults.errors.values())


def test_a_full_drive_is_named_and_nothing_is_lost(project, google):
    google.faults.always["start"] = "storageQuotaExceeded"
    before = files(project.root / "model"), files(project.root / ".dvc/cache")
    failed = project.run("dvc", "push", check=False)
    assert failed.returncode != 0 and "storage quota" in failed.stdout + failed.stderr
    assert "the Drive is full" in project.refused("remote", "check")
    assert (files(project.root / "model"), files(project.root / ".dvc/cache")) == before
    google.faults.always.clear()
    round_trip(project)


def test_a_missing_folder_is_named_and_nothing_is_lost(project, google):
    project.run("dvc", "remote", "modify", "drive", "url", "gdrive://root/no-such-folder")
    failed = project.run("dvc", "push", check=False)
    assert failed.returncode != 0 and "no-such-folder" in failed.stdout + failed.stderr
    assert "no such folder, or this account may not see it" in project.refused("remote", "check")
    project.run("dvc", "remote", "modify", "drive", "url", "gdrive://noSuchFolder")
    assert "no such folder" in project.refused("remote", "check")
    google.make_folder("no-such-folder")
    project.run("dvc", "remote", "modify", "drive", "url", "gdrive://root/no-such-folder")
    round_trip(project)


def test_a_service_account_works_in_a_shared_drive(bare, google, tmp_path):
    (tmp_path / "key.json").write_text(google.service_account())
    folder = google.make_folder("checkpoints", SHARED)
    bare.fincompress("remote", "drive", "--folder-id", folder, "--service-account", str(tmp_path / "key.json"))
    shared, private = bare.config()
    assert "gdrive_use_service_account = True" in shared and "key.json" in private and "key.json" not in shared
    round_trip(bare)


def test_in_ci_a_service_account_comes_from_the_environment(bare, google):
    bare.extra = {drive.CREDENTIALS: google.service_account()}
    folder = google.make_folder("checkpoints", SHARED)
    bare.fincompress("remote", "drive", "--folder-id", folder)
    assert bare.config()[1] == ""
    round_trip(bare)


def test_a_service_account_has_no_storage_in_my_drive(bare, google, tmp_path):
    (tmp_path / "key.json").write_text(google.service_account())
    folder = google.make_folder("checkpoints")
    line = bare.refused("remote", "drive", "--folder-id", folder, "--service-account", str(tmp_path / "key.json"))
    assert "a service account has no storage of its own: use a folder of a Workspace shared drive" in line
    assert "drive" not in bare.config()[0] and bare.config()[1] == "", "a remote that does not work is not saved"


def browser(project: DriveProject, answer: str) -> None:
    """Let a person without hands sign in: the browser goes straight to where Google would send it, with `answer`."""
    script = project.root.parent / "browser"
    script.write_text(
        f"#!{sys.executable}\n"
        "import sys, urllib.parse, urllib.request\n"
        "query = urllib.parse.parse_qs(urllib.parse.urlsplit(sys.argv[1]).query)\n"
        f"urllib.request.build_opener(urllib.request.ProxyHandler({{}})).open(query['redirect_uri'][0] + '?{answer}')\n"
    )
    script.chmod(0o755)
    project.extra = {**project.extra, "BROWSER": f"{script} %s &", "GDRIVE_CLIENT_SECRET": SECRET}


def test_a_person_signs_in_with_an_own_client(bare, google):
    google.make_folder("checkpoints")
    browser(bare, "code=42")
    output = bare.fincompress("remote", "drive", "--folder", "checkpoints", "--client-id", CLIENT_ID).stdout
    assert "next: dvc push" in output and "fincompress-check" not in str(google.contents())
    shared, private = bare.config()
    assert CLIENT_ID in shared and "url = gdrive://root/checkpoints" in shared and "gdrive_acknowledge_abuse" in shared
    assert SECRET in private and SECRET not in shared and "remote = drive" in shared
    assert ".dvc/config.local" in bare.run("git", "check-ignore", ".dvc/config.local").stdout
    bare.extra = {}  # from here on the sign-in that was kept is enough
    round_trip(bare)
    again = bare.fincompress("remote", "drive", "--folder-id", google.make_folder("other")).stdout
    assert "next" in again and CLIENT_ID in bare.config()[0] and SECRET in bare.config()[1]


def test_a_refused_sign_in_says_what_to_set(bare, google):
    google.make_folder("checkpoints")
    browser(bare, "error=access_denied")
    line = bare.refused("remote", "drive", "--folder", "checkpoints", "--client-id", CLIENT_ID)
    assert "signing in was refused" in line and "test user" in line and bare.config()[1] == ""


def test_the_blocked_app_of_dvc_is_never_tried(bare, google):
    line = bare.refused("remote", "drive", "--folder", "checkpoints")
    assert "Google blocks DVC's own OAuth app" in line and "Desktop app" in line
    bare.run("dvc", "remote", "add", "drive", "gdrive://root/checkpoints")
    assert "make an OAuth client of your own" in bare.refused("remote", "check", "drive")
    assert not google.calls


@pytest.mark.parametrize(
    ("faults", "message"),
    [
        ({"token_error": "invalid_grant"}, "tokens of an OAuth app in `Testing` last 7 days"),
        ({"token_error": "invalid_client"}, "Google does not know this OAuth client by this secret"),
        ({"always": {"list": "accessNotConfigured"}}, "the Google Drive API is off"),
        ({"always": {"start": "insufficientFilePermissions"}}, "as Editor (in a shared drive: Content manager)"),
        ({"abusive": True}, "gdrive_acknowledge_abuse true"),
        ({"corrupt_downloads": True}, "came back with other bytes than were sent"),
    ],
    ids=str,
)
def test_check_names_what_is_wrong_and_its_mend(project, google, faults, message):
    google.faults = Faults(**faults)
    assert message in project.refused("remote", "check")
    google.faults = Faults()
    assert "read it back" in project.fincompress("remote", "check").stdout


def test_files_that_drive_takes_for_malware_come_back_all_the_same(project, google):
    project.run("dvc", "remote", "modify", "drive", "gdrive_acknowledge_abuse", "true")
    google.faults.abusive = True
    round_trip(project)


def test_without_pysocks_a_proxy_would_be_passed_by_so_its_lack_is_an_error(project, google):
    (project.root / "socks.py").write_text("raise ImportError\n")
    line = project.refused("remote", "check")
    assert "PySocks, which reaches Drive through the proxy" in line and not google.calls


def test_an_unreachable_drive_is_an_error_in_a_line(project):
    project.extra = {**project.extra, "HTTPS_PROXY": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    assert "Drive cannot be reached" in project.refused("remote", "check")


def test_a_key_that_git_would_take_is_refused(bare, google):
    (bare.root / "key.json").write_text(google.service_account())
    line = bare.refused("remote", "drive", "--folder-id", SHARED, "--service-account", "key.json")
    assert "Git would take this key" in line and bare.config()[1] == ""


def test_a_folder_is_a_remote_for_those_without_drive(bare, tmp_path):
    assert "inside the project" in bare.refused("remote", "local", "checkpoints")
    bare.fincompress("remote", "local", str(tmp_path / "checkpoints"))
    round_trip(bare)
    assert list((tmp_path / "checkpoints").rglob("*.dir"))


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (("1AbCd-_9", None), "gdrive://1AbCd-_9"),
        (("https://drive.google.com/drive/u/0/folders/1AbCd-_9?usp=sharing", None), "gdrive://1AbCd-_9"),
        (("1AbCd-_9", "/finbert/"), "gdrive://1AbCd-_9/finbert"),
        ((None, "checkpoints/finbert"), "gdrive://root/checkpoints/finbert"),
    ],
)
def test_a_folder_is_named_as_the_browser_shows_it(given, url):
    assert drive.address(*given) == url


@pytest.mark.parametrize(
    "given", [(None, None), ("my folder", None), ("https://drive.google.com/drive/my-drive", None)]
)
def test_what_is_no_folder_is_refused(given):
    with pytest.raises(InputError, match="--folder-id"):
        drive.address(*given)


@pytest.mark.parametrize("content", ["", "[]", '{"installed": {"client_id": "1"}}'])
def test_a_file_that_is_no_key_is_refused(tmp_path, content):
    (tmp_path / "key.json").write_text(content)
    with pytest.raises(InputError, match=r"key\.json: not"):
        drive.read_service_account(tmp_path / "key.json")
    with pytest.raises(InputError, match="No such file"):
        drive.read_service_account(tmp_path / "missing.json")


@pytest.mark.parametrize("content", ["x", "[]", json.dumps(CLIENT)])
def test_credentials_of_no_kind_are_refused(monkeypatch, content):
    monkeypatch.setenv(drive.CREDENTIALS, content)
    with pytest.raises(InputError, match="neither a service account's JSON key nor"):
        drive.environment_account()


def test_an_unknown_failure_keeps_its_own_words():
    assert drive.explain(ValueError("an odd thing"), {}) == "ValueError: an odd thing"
