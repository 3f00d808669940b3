"""A model folder as a callable, and large files through it: right, thread-safe, light, and taken up again."""

import csv
import json
import os
import re
import subprocess
import sys
import threading
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import LABELS, ROOT
from typer.testing import CliRunner

from fincompress.cli import doctor
from fincompress.cli.doctor import examine
from fincompress.cli.main import app
from fincompress.core.errors import InputError
from fincompress.core.files import write_json
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.base import predict_logits, probabilities
from fincompress.runtimes.convert import to_onnx, to_openvino
from fincompress.runtimes.registry import open_classifier, weights_digest
from fincompress.serving import files as bulk
from fincompress.serving.classifier import load_classifier
from fincompress.serving.comparison import compare
from fincompress.serving.export import export
from fincompress.serving.files import Scored, score_file

TEXTS = read_embedded()["text"].head(40).tolist()


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory) -> dict[str, Path]:
    """One tiny network in three formats."""
    folder = tmp_path_factory.mktemp("models")
    save(load_model(str(checkpoint)), load_tokenizer(str(checkpoint), 32), folder / "torch", {})
    to_onnx(folder / "torch", folder / "onnx")
    to_openvino(folder / "torch", folder / "openvino")
    return {name: folder / name for name in ("torch", "onnx", "openvino")}


@pytest.mark.parametrize("name", ["torch", "onnx", "openvino"])
def test_any_format_is_called_alike(models, name):
    classify = load_classifier(str(models[name]), threads=1)
    expected = probabilities(predict_logits(open_classifier(models["torch"], "torch", 1), TEXTS))
    predictions = classify(TEXTS, batch_size=7)
    assert [prediction.text for prediction in predictions] == TEXTS
    found = np.array([list(prediction.probabilities.values()) for prediction in predictions])
    np.testing.assert_allclose(found, expected, atol=1e-4)
    alone = classify(TEXTS[3])
    assert alone.label == LABELS[int(expected[3].argmax())] == predictions[3].label
    assert alone.confidence == pytest.approx(expected[3].max(), abs=1e-4)
    assert classify([]) == [] and classify.labels == LABELS
    with pytest.raises(TypeError, match="expected texts, found int"):
        classify(["a", 3])


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_threads_that_share_a_classifier_each_get_their_own_answers(models, name):
    classify = load_classifier(models[name], threads=1)
    expected = {text: classify(text) for text in TEXTS}
    wrong = []

    def work(start: int) -> None:
        for text in (*TEXTS[start:], *TEXTS[:start]):
            found = classify([text, TEXTS[0]])[0]
            if abs(found.confidence - expected[text].confidence) > 1e-4 or found.text != text:
                wrong.append((text, found))

    workers = [threading.Thread(target=work, args=(start,)) for start in range(0, 40, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


def test_a_converted_model_is_served_without_torch_and_in_little_memory(models):
    program = (
        "import sys, psutil; from fincompress import load_classifier;"
        f"load_classifier({str(models['onnx'])!r}, threads=1)('Profit rose.');"
        "print([name for name in ('torch', 'transformers', 'openvino', 'pandas', 'sklearn') if name in sys.modules]);"
        "print(psutil.Process().memory_info().rss / 1e6)"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    imported, megabytes = result.stdout.splitlines()
    assert imported == "[]" and float(megabytes) < 300


def test_a_runtime_that_cannot_run_a_model_is_named(models):
    with pytest.raises(InputError, match="a model for onnxruntime, which torch cannot run"):
        load_classifier(models["onnx"], runtime="torch")
    assert load_classifier(models["torch"], runtime="torch_int8", threads=1)("Profit rose.").label in LABELS


def write_rows(path: Path, count: int) -> list[dict]:
    texts = [f'{TEXTS[i % 40]} "{i}", naïve' for i in range(count)]
    rows = [{"id": i, "text": text, "note": "a\nb" if i % 3 else ""} for i, text in enumerate(texts)]
    frame = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        frame.to_parquet(path)
    elif path.suffix == ".jsonl":
        frame.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        frame.to_csv(path, index=False, sep="\t" if path.suffix == ".tsv" else ",")
    return rows


def read_scored(path: Path) -> pd.DataFrame:
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, orient="records", lines=True)
    return pd.read_csv(path, sep="\t" if path.suffix == ".tsv" else ",", keep_default_na=False)


@pytest.mark.parametrize(
    ("source", "target"), [(".csv", ".parquet"), (".parquet", ".jsonl"), (".jsonl", ".tsv"), (".tsv", ".csv")]
)
def test_a_file_is_scored_row_by_row_whatever_its_kind(models, tmp_path, monkeypatch, source, target):
    monkeypatch.setattr(bulk, "ROWS", 16)
    rows = write_rows(tmp_path / f"in{source}", 50)
    classify = load_classifier(models["onnx"], threads=1)
    assert score_file(classify, tmp_path / f"in{source}", tmp_path / f"out{target}", batch_size=8) == Scored(50, 0)
    scored = read_scored(tmp_path / f"out{target}")
    assert scored["id"].astype(int).tolist() == list(range(50)) and scored["text"].tolist() == [r["text"] for r in rows]
    assert list(scored.columns) == [
        "id",
        "text",
        "note",
        "predicted_label",
        *(f"probability_{name}" for name in LABELS),
    ]
    expected = classify.probabilities([row["text"] for row in rows])
    np.testing.assert_allclose(scored[[f"probability_{name}" for name in LABELS]], expected, atol=2e-6)
    assert scored["predicted_label"].tolist() == [LABELS[i] for i in expected.argmax(axis=1)]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([f"in{source}", f"out{target}"])


def test_an_interrupted_file_goes_on_where_it_was_and_another_job_starts_afresh(models, tmp_path, monkeypatch):
    monkeypatch.setattr(bulk, "ROWS", 16)
    write_rows(tmp_path / "in.csv", 50)
    classify = load_classifier(models["onnx"], threads=1)
    whole = classify.probabilities
    calls = []

    def stopping(texts, batch_size):
        calls.append(len(texts))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return whole(texts, batch_size)

    classify.probabilities = stopping
    with pytest.raises(KeyboardInterrupt):
        score_file(classify, tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()
    (tmp_path / ".out.csv.parts" / ".000002-half.csv").write_text("id,te")  # what a kill leaves
    assert score_file(classify, tmp_path / "in.csv", tmp_path / "out.csv") == Scored(50, 0)
    assert calls == [16, 16, 16, 16, 2], "the two parts that were finished are not scored again"
    resumed = (tmp_path / "out.csv").read_bytes()
    classify.probabilities = whole
    score_file(classify, tmp_path / "in.csv", tmp_path / "again.csv")
    assert (tmp_path / "again.csv").read_bytes() == resumed
    calls.clear()
    classify.probabilities = stopping
    with pytest.raises(KeyboardInterrupt):
        score_file(classify, tmp_path / "in.csv", tmp_path / "third.csv")
    write_rows(tmp_path / "in.csv", 20)
    assert score_file(classify, tmp_path / "in.csv", tmp_path / "third.csv") == Scored(20, 0)
    assert calls == [16, 16, 16, 4], "the one part that the shorter file shares is not scored again"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("words\nA\n", r"in.csv: no column `text`; columns found: words"),
        ("id,text\n1,A\n2,\n", r"in.csv, line 3: empty text in column `text`"),
        ("", r"in.csv: no rows"),
    ],
)
def test_a_row_that_cannot_be_scored_is_named_and_nothing_is_written(models, tmp_path, content, message):
    (tmp_path / "in.csv").write_text(content)
    with pytest.raises(InputError, match=message):
        score_file(load_classifier(models["onnx"], threads=1), tmp_path / "in.csv", tmp_path / "out.csv")
    assert not (tmp_path / "out.csv").exists()


def test_the_command_scores_a_file_and_says_how_fast(models, tmp_path):
    write_rows(tmp_path / "in.csv", 5)
    files = ["--input", str(tmp_path / "in.csv"), "--output", str(tmp_path / "out.jsonl")]
    ended = CliRunner().invoke(app, ["predict", "--model", str(models["onnx"]), *files])
    assert ended.exit_code == 0 and "out.jsonl: 5 rows in " in ended.stderr and ended.stdout == ""
    assert len([json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]) == 5
    half = CliRunner().invoke(app, ["predict", "--model", str(models["onnx"]), "--input", "x.csv"])
    assert isinstance(half.exception, InputError) and "--input and --output go together" in str(half.exception)


def test_the_command_counts_rows_without_a_text_and_says_where_they_are_listed(models, tmp_path):
    (tmp_path / "in.jsonl").write_text('{"text": "Profit rose."}\n{"text": null}\n')
    command = ["predict", "--model", str(models["onnx"]), "--input", str(tmp_path / "in.jsonl"), "--output"]
    refused = CliRunner().invoke(app, [*command, str(tmp_path / "out.csv")])
    assert isinstance(refused.exception, InputError) and "in.jsonl, line 2: null in column" in str(refused.exception)
    ended = CliRunner().invoke(app, [*command, str(tmp_path / "out.csv"), "--on-error", "null"])
    assert ended.exit_code == 0 and "out.csv: 2 rows in " in ended.stderr
    assert f"; 1 of them without a text and a result, listed in {tmp_path}/out.csv.errors.jsonl" in ended.stderr
    assert (tmp_path / "out.csv").read_text().splitlines()[2] == ",,,,"


@pytest.mark.parametrize("encoding", ["utf-8:strict", "utf-8:surrogateescape"])
def test_bytes_that_are_no_text_are_one_line(models, encoding):
    """Standard input lets them pass in some locales, and arguments always do."""
    command = [sys.executable, "-m", "fincompress", "predict", "--model", str(models["onnx"])]
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "1"}

    def said(*arguments: bytes, stdin: bytes = b"") -> str:
        ended = subprocess.run([*command, *arguments], cwd=ROOT, input=stdin, env=environment, capture_output=True)
        assert ended.returncode == 2 and ended.stdout == b""
        (line,) = ended.stderr.decode().splitlines()
        return line

    latin = "Profit rose.\ncaf\u00e9 sales\n".encode("latin-1")
    assert re.match(r"error: standard input, (after line 0|line 2): not UTF-8; convert it first", said(stdin=latin))
    assert said(b"caf\xe9").startswith("error: text 1: not UTF-8")


def test_lines_of_standard_input_end_at_line_feeds_and_carriage_returns_alone(models):
    given = "\ufeffSales rose.\u2028Profit fell.\nA\u0085B\r\nC\fD\rE\n \n"
    ended = CliRunner().invoke(app, ["predict", "--model", str(models["onnx"]), "--json"], input=given.encode())
    assert ended.exit_code == 0
    texts = [json.loads(line)["text"] for line in ended.stdout.split("\n") if line]
    assert texts == ["Sales rose.\u2028Profit fell.", "A\u0085B", "C\fD", "E"]


def test_models_are_compared_on_the_same_sentences(models):
    answers = compare(models, TEXTS[:4], threads=1)
    assert [(answer.model, answer.runtime) for answer in answers] == [
        ("torch", "torch"),
        ("onnx", "onnxruntime"),
        ("openvino", "openvino"),
    ]
    assert len({tuple(prediction.label for prediction in answer.predictions) for answer in answers}) == 1
    assert all(answer.latency_ms > 0 for answer in answers)
    options = [option for folder in models.values() for option in ("--model", str(folder))]
    shown = CliRunner().invoke(app, ["compare", *options, "Profit [rose].", "Loss."])
    assert shown.exit_code == 0 and "Profit [rose]." in shown.stdout
    assert "2 of 2 texts get the same label from all" in shown.stdout


@pytest.mark.parametrize(
    ("source", "kind"), [("torch", "torch"), ("torch", "onnx"), ("torch", "openvino"), ("onnx", "onnx")]
)
def test_an_export_works_alone_and_answers_as_its_source(models, tmp_path, monkeypatch, source, kind):
    monkeypatch.chdir(tmp_path)
    done = export(models[source], kind, tmp_path / "out")
    assert done.difference <= 1e-3 and done.texts == 64
    moved = (tmp_path / "out").rename(tmp_path / "moved")
    assert (
        load_classifier(moved, threads=1)(TEXTS[0]).label == load_classifier(models[source], threads=1)(TEXTS[0]).label
    )
    card = (moved / "README.md").read_text(encoding="utf-8")
    assert "negative, neutral, positive" in card and "at most" in card
    with pytest.raises(InputError, match="exists already"):
        export(models[source], kind, moved)


def test_an_export_names_the_scores_of_this_very_model_and_of_no_other(models, tmp_path, monkeypatch):
    """A run measured a model of the same bytes under another name, and another model under its name."""
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / f"metrics/variants/{models['torch'].name}.json", {"macro_f1": 0.111, "val_macro_f1": 0.222})
    write_json(tmp_path / "metrics/variants/kd.json", {"macro_f1": 0.333, "val_macro_f1": 0.444})
    card = export(models["torch"], "onnx", tmp_path / "first").folder / "README.md"
    assert "Macro F1" not in card.read_text(encoding="utf-8"), "nothing says of which model the records are"
    weights = {models["torch"].name: "0" * 64, "kd": weights_digest(models["torch"], "torch")}
    write_json(tmp_path / "metrics/about/models.json", {"weights": weights})
    card = export(models["torch"], "onnx", tmp_path / "second").folder / "README.md"
    assert "Macro F1 0.333 on the test split" in card.read_text(encoding="utf-8")
    card = export(models["onnx"], "onnx", tmp_path / "third").folder / "README.md"
    assert "Macro F1" not in card.read_text(encoding="utf-8"), "its weights are other bytes"


def test_an_export_that_answers_otherwise_is_refused_and_leaves_nothing(models, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("fincompress.serving.export.TOLERANCE", -1.0)
    with pytest.raises(InputError, match="gives other logits"):
        export(models["torch"], "onnx", tmp_path / "out")
    with pytest.raises(InputError, match="a model for onnxruntime cannot become openvino"):
        export(models["onnx"], "openvino", tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_the_doctor_names_what_is_missing_with_its_mend(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    outside = {finding.what: finding for finding in examine()}
    assert outside["Python"].mend is None and "none in this folder" in outside["project"].found
    for file in ("dvc.yaml", "params.yaml"):
        (tmp_path / file).write_text((ROOT / file).read_text())
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("fincompress.cli.doctor.usable_cores", lambda: 4)
    inside = {finding.what: finding for finding in examine()}
    assert inside["models/kd"].found == "missing" and "dvc repro" in inside["models/kd"].mend
    assert "unset OMP_NUM_THREADS" in inside["threads"].mend
    ended = CliRunner().invoke(app, ["doctor"])
    assert ended.exit_code == 1 and "models/kd" in ended.stdout


@pytest.mark.parametrize("files", [("in.csv", "out.parquet"), ("in.parquet", "out.csv")])
def test_parquet_without_its_extra_is_named_before_anything_is_scored(models, tmp_path, monkeypatch, files):
    for name in files:
        if name.startswith("in"):
            write_rows(tmp_path / name, 3)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(InputError, match=r"pip install 'fincompress\[parquet\]'"):
        score_file(load_classifier(models["onnx"], threads=1), tmp_path / files[0], tmp_path / files[1])
    assert [path.name for path in tmp_path.iterdir()] == [files[0]]


class Installed:
    """Stands for `importlib.metadata`: a distribution's requirements, and versions by name."""

    PackageNotFoundError = metadata.PackageNotFoundError

    def __init__(self, **versions: str):
        self.versions = versions

    def requires(self, name: str) -> list[str]:
        whole = 'fincompress[small]; extra == "whole"'
        return ["numpy>=2.0,<3", 'torch>=2.13,<3; extra == "whole"', 'pyarrow>=26,<27; extra == "small"', whole]

    def metadata(self, name: str):
        return SimpleNamespace(get_all=lambda key: ["small", "whole"])

    def version(self, name: str) -> str:
        if name not in self.versions:
            raise metadata.PackageNotFoundError(name)
        return self.versions[name]


def test_the_doctor_holds_packages_to_their_ranges_and_lists_extras_that_are_not_there(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "metadata", Installed(numpy="1.26.4", torch="2.13.0+cpu"))
    found = {finding.what: finding for finding in doctor._packages()}
    assert found["numpy"].mend == "outside <3,>=2.0: pip install 'numpy<3,>=2.0'"
    assert found["torch"].mend is None
    assert (found["extra small"].found, found["extra small"].mend) == ("lacks pyarrow", None)
    monkeypatch.setattr(doctor, "metadata", Installed(numpy="2.4.6", torch="3.0", pyarrow="26.0.1"))
    found = {finding.what: finding for finding in doctor._packages()}
    assert found["numpy"].mend is None and "outside <3,>=2.13" in found["torch"].mend
    assert set(found) == {"numpy", "torch", "pyarrow"}


def test_quoted_cells_survive(models, tmp_path):
    with (tmp_path / "in.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["text", "a,b"], ['He said "up", twice', "1\n2"]])
    score_file(load_classifier(models["onnx"], threads=1), tmp_path / "in.csv", tmp_path / "out.csv")
    (row,) = csv.DictReader((tmp_path / "out.csv").open(newline="", encoding="utf-8"))
    assert row["text"] == 'He said "up", twice' and row["a,b"] == "1\n2"
