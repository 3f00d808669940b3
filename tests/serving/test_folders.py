"""Scoring a folder of files: here, and on a local Ray cluster that loses a worker midway."""

import json
import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import ROOT
from typer.testing import CliRunner

from fincompress.cli.main import app
from fincompress.core.errors import InputError
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.convert import to_onnx
from fincompress.serving.folders import FolderScored, Scoring, score_folder


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory) -> Path:
    """A tiny network for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("model")
    save(load_model(str(checkpoint)), load_tokenizer(str(checkpoint), 32), folder / "torch", {})
    to_onnx(folder / "torch", folder / "onnx")
    return folder / "onnx"


def scoring(model: Path, **changes) -> Scoring:
    values = {"model": str(model), "runtime": None, "threads": 1, "text_column": "text", "batch_size": 32}
    return Scoring(**values | changes)


def write(folder: Path, files: int, rows: int) -> pd.DataFrame:
    """Parquet files with consecutive ids, half of them a folder deeper; returns all rows."""
    texts = random.Random(0).choices(read_embedded()["text"].tolist(), k=files * rows)
    frame = pd.DataFrame({"id": range(len(texts)), "text": texts})
    (folder / "deeper").mkdir(parents=True)
    for number in range(files):
        path = folder / ("deeper" if number % 2 else "") / f"part-{number}.parquet"
        frame[number * rows : (number + 1) * rows].to_parquet(path)
    return frame


def read(folder: Path) -> pd.DataFrame:
    """All rows of a folder, each file's in their order."""
    frames = [pd.read_parquet(path) for path in sorted(folder.rglob("*.parquet"), key=lambda path: path.name)]
    return pd.concat(frames, ignore_index=True)


def test_a_folder_keeps_its_files_and_what_is_finished_is_not_scored_again(model, tmp_path):
    def scored_rows() -> int:
        done = score_folder(scoring(model), tmp_path / "in", tmp_path / "out")
        assert done == FolderScored(done.rows, 0, [])
        return done.rows

    frame = write(tmp_path / "in", files=3, rows=20)
    assert scored_rows() == 60
    scored = read(tmp_path / "out")
    assert scored[["id", "text"]].equals(frame) and scored["predicted_label"].notna().all()
    assert (tmp_path / "out/deeper/part-1.parquet").is_file()
    assert scored_rows() == 0
    frame[:7].to_parquet(tmp_path / "in/part-0.parquet")
    assert scored_rows() == 7, "a changed file is scored again"
    (tmp_path / "out/part-2.parquet").unlink()
    assert scored_rows() == 20


def test_a_folder_may_hold_files_of_every_kind_and_empty_ones(model, tmp_path):
    frame = write(tmp_path / "in", files=1, rows=3)
    frame[:0].to_parquet(tmp_path / "in/empty.parquet")
    frame.to_csv(tmp_path / "in/rows.csv", index=False)
    frame.to_csv(tmp_path / "in/rows.tsv", index=False, sep="\t")
    frame.to_json(tmp_path / "in/deeper/rows.jsonl", orient="records", lines=True)
    (tmp_path / "in/notes.txt").write_text("not a table")
    (tmp_path / "in/.hidden.csv").write_text("text\n\n")
    (tmp_path / "in/old.csv.errors.jsonl").write_text('{"row": 1}\n')
    assert score_folder(scoring(model), tmp_path / "in", tmp_path / "out") == FolderScored(12, 0, [])
    written = {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("[!.]*.*")}
    assert written == {"part-0.parquet", "empty.parquet", "rows.csv", "rows.tsv", "deeper/rows.jsonl"}
    assert len(pd.read_parquet(tmp_path / "out/empty.parquet")) == 0
    assert pd.read_csv(tmp_path / "out/rows.csv")["text"].tolist() == frame["text"].tolist()


def test_files_that_cannot_be_scored_are_listed_and_the_others_are_scored(model, tmp_path):
    frame = write(tmp_path / "in", files=3, rows=4)
    pd.DataFrame({"text": ["Profit rose.", " "]}).to_parquet(tmp_path / "in/bad.parquet")
    (tmp_path / "in/broken.parquet").write_bytes(b"PAR1")
    done = score_folder(scoring(model), tmp_path / "in", tmp_path / "out")
    assert (done.rows, done.bad, len(done.errors)) == (12, 0, 2)
    assert "in/bad.parquet, row 2: empty text in column `text`" in done.errors[0]
    assert "in/broken.parquet: not readable as Parquet" in done.errors[1]
    assert read(tmp_path / "out")[["id", "text"]].equals(frame)

    command = ["predict", "--model", str(model), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    ended = CliRunner().invoke(app, command)
    assert ended.exit_code == 1 and ended.stdout == ""
    assert [line[:6] for line in ended.stderr.splitlines()[-2:]] == ["error:"] * 2 and "out: 0 rows in" in ended.stderr
    (tmp_path / "in/broken.parquet").unlink()
    ended = CliRunner().invoke(app, [*command, "--on-error", "null"])
    assert ended.exit_code == 0 and "out: 2 rows in" in ended.stderr
    assert "1 of them without a text and a result, listed in *.errors.jsonl beside the outputs" in ended.stderr
    assert [json.loads(line) for line in (tmp_path / "out/bad.parquet.errors.jsonl").read_text().splitlines()] == [
        {"row": 2, "at": "row 2", "reason": "empty text"}
    ]
    assert pd.read_parquet(tmp_path / "out/bad.parquet")["predicted_label"].isna().tolist() == [False, True]
    assert score_folder(scoring(model, on_error="null"), tmp_path / "in", tmp_path / "out").rows == 0
    (error,) = score_folder(scoring(model), tmp_path / "in", tmp_path / "out").errors
    assert "bad.parquet, row 2" in error, "without --on-error null, such an output is unfinished"


def test_a_mistake_names_the_folder(model, tmp_path):
    def message(**changes) -> str:
        with pytest.raises(InputError) as error:
            score_folder(scoring(model, **changes), tmp_path / "in", tmp_path / "out")
        return str(error.value)

    (tmp_path / "in").mkdir()
    assert "in: no .csv, .tsv, .jsonl, .parquet file below it" in message()
    pd.DataFrame({"text": ["Profit rose."]}).to_parquet(tmp_path / "in/a.parquet")
    score_folder(scoring(model), tmp_path / "in", tmp_path / "out")
    assert "out: holds what another model or other options scored" in message(text_column="body")
    with pytest.raises(InputError, match="is inside the input"):
        score_folder(scoring(model), tmp_path / "in", tmp_path / "in/out")
    with pytest.raises(InputError, match="99 workers of 1 threads are more than"):
        write(tmp_path / "many", files=99, rows=1)
        score_folder(scoring(model), tmp_path / "many", tmp_path / "new", "ray", workers=99)


@pytest.mark.e2e
def test_a_cluster_that_loses_a_worker_midway_loses_and_doubles_no_row(model, tmp_path):
    frame = write(tmp_path / "in", files=10, rows=5000)
    command = [sys.executable, "-m", "fincompress", "predict", "--engine", "ray", "--workers", "2", "--threads", "1"]
    command += ["--model", str(model), "--input", str(tmp_path / "in"), "--output", str(tmp_path / "out")]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    workers = []
    while len(workers) < 2 or not list((tmp_path / "out").rglob("[!.]*.parquet")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.05)
        workers = [child for child in psutil.Process(process.pid).children(recursive=True) if _is_worker(child)]
    workers[0].kill()
    assert len(list((tmp_path / "out").rglob("[!.]*.parquet"))) < 9, "work was left when it died"
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors
    scored = read(tmp_path / "out")
    assert scored[["id", "text"]].equals(frame)
    assert f"{len(frame)} rows in" in errors
    assert score_folder(scoring(model), tmp_path / "in", tmp_path / "here").rows == len(frame)
    assert scored.equals(read(tmp_path / "here")), "as one process scores them"


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("ray::MapWorker")
    except psutil.Error:
        return False
