"""`make quick`: the pipeline on a sample in a folder of its own, which leaves the project as it was."""

import subprocess
from pathlib import Path

import pytest
from conftest import ROOT, Project, ran
from ruamel.yaml import YAML

from fincompress.cli.quick import prepare_folder
from fincompress.core.errors import InputError
from fincompress.core.files import read_json
from fincompress.core.params import checked_params


@pytest.fixture
def small(fresh_project, tmp_path) -> Project:
    """The tiny project, to be made smaller still."""
    project = fresh_project.copy(tmp_path / "project")
    (project.root / "quick.yaml").write_text("prepare:\n  max_rows: 90\nteacher:\n  epochs: 0\n")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "Smaller")
    return project


@pytest.mark.e2e
def test_a_quick_run_is_made_beside_the_project_and_repeated_only_where_outdated(small):
    first = small.run("python", "-m", "fincompress", "quick", "teacher").stdout
    assert ran(first) == ["prepare", "teacher"]
    assert "quick/models: the models" in first
    assert small.run("git", "status", "--porcelain").stdout == ""
    assert not (small.root / "models").exists() and not (small.root / ".dvc/cache").exists()
    rows = read_json(small.root / "quick/metrics/about/data.json")["rows"]["all"]
    assert rows == pytest.approx(90, abs=3), "a share of each label, rounded"
    assert ran(small.run("python", "-m", "fincompress", "quick", "teacher").stdout) == []
    (small.root / "quick.yaml").write_text("prepare:\n  max_rows: 90\nteacher:\n  epochs: 0\n  patience: 2\n")
    assert ran(small.run("python", "-m", "fincompress", "quick", "teacher").stdout) == ["teacher"]
    small.set_param("kd.epochs", "many")
    refused = small.run("python", "-m", "fincompress", "quick", check=False)
    assert refused.returncode == 2 and refused.stderr.startswith("error: quick/params.yaml: kd.epochs: ")
    assert refused.stderr.count("\n") == 1


def test_the_committed_changes_make_a_valid_smaller_run(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    prepare_folder(tmp_path / "quick", Path("quick.yaml"))
    small, whole = checked_params(tmp_path / "quick/params.yaml"), checked_params(ROOT / "params.yaml")
    assert small.prepare.max_rows == 150 and small.benchmark.runs < whole.benchmark.runs
    changed = YAML(typ="safe").load(ROOT / "quick.yaml")
    for section in type(whole).model_fields.keys() - changed.keys():
        assert getattr(small, section) == getattr(whole, section)
    assert (tmp_path / "quick/stages/kd.py").read_bytes() == (ROOT / "stages/kd.py").read_bytes()


@pytest.fixture
def copy(tmp_path, monkeypatch) -> Path:
    """The working directory: a project that a quick run could start from."""
    monkeypatch.chdir(ROOT)
    prepare_folder(tmp_path / "project", Path("quick.yaml"))
    monkeypatch.chdir(tmp_path / "project")
    return tmp_path / "project"


def test_own_files_are_read_where_they_lie(copy):
    (copy / "mine").mkdir()
    (copy / "mine/rows.csv").write_text("text,label\n")
    own = "prepare:\n  source: files\nkd:\n  transfer: mine\n"
    (copy / "changes.yaml").write_text(own)
    prepare_folder(copy / "quick", copy / "changes.yaml")
    params = checked_params(copy / "quick/params.yaml")
    assert (params.kd.transfer, params.evaluate.extra) == (str(copy / "mine"), str(ROOT / "inputs/extra"))
    assert params.prepare.files.path == "fincompress/data/corpus/sentences.csv", "copied with the code"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("kd:\n  epoch: 1\n", "changes.yaml: kd.epoch: params.yaml has no such key"),
        ("kdd:\n  epochs: 1\n", "changes.yaml: kdd.epochs: params.yaml has no such key"),
        ("kd:\n  epochs: -1\n", "params.yaml: kd.epochs: Input should be greater than or equal to 0"),
        ("kd: [\n", "changes.yaml: not valid YAML: "),
        ("- kd\n", "changes.yaml: expected sections such as `kd:`"),
        ("kd: 1\n", "changes.yaml: kd: expected keys such as `epochs:`"),
    ],
)
def test_a_change_that_cannot_be_made_is_named(copy, content, message):
    (copy / "changes.yaml").write_text(content)
    with pytest.raises(InputError) as error:
        prepare_folder(Path("quick"), Path("changes.yaml"))
    assert message in str(error.value)


def test_a_folder_that_holds_something_else_is_left_alone(copy, tmp_path, monkeypatch):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/stages").mkdir()
    with pytest.raises(InputError, match="holds something else"):
        prepare_folder(tmp_path / "full", Path("quick.yaml"))
    monkeypatch.chdir(tmp_path / "full")
    with pytest.raises(InputError, match="run from the project's folder"):
        prepare_folder(tmp_path / "new", Path("quick.yaml"))
    assert not (tmp_path / "new").exists()


def test_git_and_dvc_do_not_see_the_folder():
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    assert subprocess.run(["git", "check-ignore", "-q", "quick"], cwd=ROOT).returncode == 0
    assert "/quick" in (ROOT / ".dvcignore").read_text().splitlines()
