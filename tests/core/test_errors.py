"""What the disk refuses is one line with the mend, in stages and in the command; other errors keep their traceback."""

import errno
import sys
from pathlib import Path

import pytest
from safetensors import SafetensorError

from fincompress.cli.main import main
from fincompress.core import files, stage
from fincompress.core.errors import InputError, disk_explained

REFUSALS = [
    (
        OSError(errno.ENOSPC, "No space left on device", "models/kd/model.safetensors"),
        "model.safetensors: the disk is full",
    ),
    (OSError(errno.ENOSPC, "No space left on device"), "error: the disk is full"),
    (PermissionError(errno.EACCES, "Permission denied", Path("metrics")), "metrics: permission denied"),
    (OSError(errno.EROFS, "Read-only file system", "out"), "out: the file system is read-only"),
    (SafetensorError("I/O error: No space left on device (os error 28)"), "error: the disk is full"),
    (RuntimeError("[enforce fail] unexpected pos: No space left on device"), "error: the disk is full"),
]


@pytest.mark.parametrize(("error", "line"), REFUSALS, ids=[line for _, line in REFUSALS])
def test_what_the_disk_refuses_ends_a_stage_with_one_line(error, line, monkeypatch, capsys):
    def command() -> None:
        raise error

    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        stage.run(command)
    (said,) = capsys.readouterr().err.splitlines()
    assert ended.value.code == 2 and line in said and said.endswith("then run the same command again")


def test_what_the_disk_refuses_ends_the_command_with_one_line_and_leaves_nothing(tmp_path, monkeypatch, capsys):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", str(target))

    def predict(text: str) -> None:
        files.write_text(tmp_path / "out/scored.csv", text)

    monkeypatch.setattr(files.os, "replace", full)
    monkeypatch.setattr("fincompress.cli.main.app", lambda: predict("a"))
    monkeypatch.setattr(sys, "argv", ["fincompress", "predict", "a"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "scored.csv: the disk is full" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(
    "error", [ValueError("a bug"), FileNotFoundError(errno.ENOENT, "No such file", "x"), KeyError("x")]
)
def test_other_errors_stay_as_they_are(error):
    with pytest.raises(type(error)) as found, disk_explained():
        raise error
    assert found.value is error and not isinstance(found.value, InputError)
