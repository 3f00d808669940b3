"""What needs a project, a model or DVC and does not find it says so in one line."""

import os
import sys
from pathlib import Path

import pytest
from dvc.repo import Repo

from fincompress.cli.main import main

PARAMS = "params.yaml: not found; run from the folder that holds params.yaml"
MODEL = "no model there; `dvc repro` makes it, or `dvc pull` fetches it"
DVC = "not inside a DVC project; change into the folder with dvc.yaml"


def error_of(arguments: list[str], monkeypatch, capsys) -> str:
    """The one line on standard error with which a command line ends."""
    monkeypatch.setattr(sys, "argv", ["fincompress", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    captured = capsys.readouterr()
    (line,) = captured.err.strip().splitlines()
    assert ended.value.code == 2 and captured.out == "" and line.startswith("error: ")
    return line


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("predict Hi", MODEL),
        ("compare Hi --model kd", PARAMS),
        ("export models/kd out", MODEL),
        ("demo", PARAMS),
        ("space", MODEL),
        ("quick", "no fincompress, stages, dvc.yaml, params.yaml here; run from the project's folder"),
        ("results", "`dvc repro benchmark` writes it"),
        ("select", "`dvc repro benchmark` writes it"),
        ("seeds", PARAMS),
        ("doctor nowhere", "nowhere: no such file or folder; a checkpoint on the hub has to be fetched first"),
        ("remote local ../elsewhere", DVC),
        ("remote check", DVC),
        ("remote drive --folder checkpoints", DVC),
    ],
)
def test_outside_a_project_every_command_says_what_it_misses(tmp_path, monkeypatch, capsys, command, line):
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert line in error_of(command.split(), monkeypatch, capsys)
    assert os.listdir() == []


@pytest.mark.parametrize("command", ["remote local ../elsewhere", "remote check", "remote drive --folder a --no-check"])
def test_a_dvc_configuration_that_cannot_be_read_is_named(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True)
    Path(".dvc/config").write_text("[core]\nnonsense = 1\n")
    account = " --client-id a.apps.googleusercontent.com --client-secret s" if "drive" in command else ""
    assert ".dvc/config" in error_of((command + account).split(), monkeypatch, capsys)
    assert Path(".dvc/config").read_text() == "[core]\nnonsense = 1\n"
