"""Scoring a folder of Parquet files: here, and on a local Ray cluster that loses a worker midway."""

import random
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import psutil
import pytest
from conftest import ROOT

from fincompress.core.errors import InputError
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.convert import to_onnx
from fincompress.serving.folders import Scoring, score_folder


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
    frame = write(tmp_path / "in", files=3, rows=20)
    assert score_folder(scoring(model), tmp_path / "in", tmp_path / "out") == 60
    scored = read(tmp_path / "out")
    assert scored[["id", "text"]].equals(frame) and scored["predicted_label"].notna().all()
    assert (tmp_path / "out/deeper/part-1.parquet").is_file()
    assert score_folder(scoring(model), tmp_path / "in", tmp_path / "out") == 0
    frame[:7].to_parquet(tmp_path / "in/part-0.parquet")
    assert score_folder(scoring(model), tmp_path / "in", tmp_path / "out") == 7, "a changed file is scored again"
    (tmp_path / "out/part-2.parquet").unlink()
    assert score_folder(scoring(model), tmp_path / "in", tmp_path / "out") == 20


def test_a_mistake_names_the_folder_the_file_or_the_row(model, tmp_path):
    def message(**changes) -> str:
        with pytest.raises(InputError) as error:
            score_folder(scoring(model, **changes), tmp_path / "in", tmp_path / "out")
        return str(error.value)

    (tmp_path / "in").mkdir()
    assert "in: no .parquet file below it" in message()
    pd.DataFrame({"text": ["Profit rose.", " "]}).to_parquet(tmp_path / "in/a.parquet")
    assert "a.parquet, row 2: empty text in column `text`" in message()
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
    assert score_folder(scoring(model), tmp_path / "in", tmp_path / "here") == len(frame)
    assert scored.equals(read(tmp_path / "here")), "as one process scores them"


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("ray::MapWorker")
    except psutil.Error:
        return False
