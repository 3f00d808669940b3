"""The whole pipeline with the real `dvc` command, in a temporary clone with a tiny random model."""

import csv
import importlib
import io
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest
from conftest import NETWORKS, ran
from declared import TOP
from declared import command as stage_command
from dvc.repo import Repo

from fincompress.core import stage
from fincompress.core.files import read_json
from fincompress.core.params import checked_params
from fincompress.core.registry import PIPELINES
from stages import prepare, ptq, teacher
from studies import training_cost

pytestmark = pytest.mark.e2e
QUALITY = ("macro_f1", "accuracy", "agreement", "val_macro_f1", "parameters")


def quality(project) -> dict[str, dict]:
    return {name: {key: record[key] for key in QUALITY} for name, record in project.metrics().items()}


def test_full_run_leaves_metrics_tables_and_figures(finished_project):
    records = finished_project.metrics()
    converted = {f"{name}{suffix}" for name in NETWORKS for suffix in ("", "_ov_int8", "_ort_int8")}
    others = {"teacher_ort_fp32", "teacher_ov_fp32", "teacher_torch_int8", "qat", "bag_of_words"}
    assert set(records) == converted | others
    assert len({tuple(record) for record in records.values()}) == 1
    sizes = [(records[name]["parameters"], records[name]["size_mb"]) for name in ("prune50", "prune30", "teacher")]
    assert sizes[0] < sizes[1] < sizes[2] and sizes[0][1] < sizes[1][1] < sizes[2][1]
    for runtime in ("ort", "ov"):
        assert records[f"teacher_{runtime}_fp32"]["macro_f1"] == pytest.approx(records["teacher"]["macro_f1"], abs=0.03)
    assert records["qat"]["parameters"] == records["ikd"]["parameters"] < records["teacher"]["parameters"]
    for ending in ("", "_padded"):
        for record in (record for name, record in records.items() if name != "bag_of_words"):
            total, *causes = (record[f"{key}{ending}"] for key in ("speedup", "compression_gain", "runtime_gain"))
            assert total["value"] == pytest.approx(causes[0]["value"] * causes[1]["value"], rel=0.02)
            assert total["low"] <= total["value"] <= total["high"]
    for record in records.values():
        both = record["forward_ms"]["p50"] + record["tokenise_ms"]
        assert record["latency_ms"]["p50"] == pytest.approx(both, rel=0.5) and record["latency_ms"]["p50"] > 0
    assert {name for name, record in records.items() if record["int8_peak_share"] is not None} == {
        name for name in records if name.endswith("_int8") or name == "qat"
    }
    weights = read_json(finished_project.root / "metrics/about/models.json")["weights"]
    assert set(weights) == converted | {"qat"} and len(set(weights.values())) == len(weights)
    assert {path.name for path in (finished_project.root / "plots/figures").iterdir()} == {
        f"{name}.png"
        for name in (
            "confusion_matrices",
            "f1_against_latency",
            "f1_by_class",
            "f1_by_length",
            "f1_by_phenomenon",
            "f1_by_source",
            "f1_changes",
            "head_importance",
            "latency_curves",
            "latency_distributions",
            "learning_curves",
            "pruning_curves",
            "reliability_diagrams",
        )
    }
    samples = pd.read_csv(finished_project.root / "plots/tables/latency_samples.csv")
    assert (samples.groupby(["variant", "protocol"]).size() == 20).all()


@pytest.mark.parametrize("network", PIPELINES["side_by_side"].networks, ids=lambda network: network.name)
def test_every_training_stage_says_how_it_scores_and_what_it_took(finished_project, network):
    record = read_json(finished_project.root / f"metrics/training/{network.name}.json")
    assert 0 <= record["val_macro_f1"] <= 1 and record["seconds"] > 0 and 100 < record["peak_rss_mb"] < 20_000
    if network.stage == "prune":
        heads = {"prune30": 16 - 5, "prune50": 16 - 8}  # 30 % and 50 % of 4 layers of 4
        assert record["heads_left"] == heads[network.name]
    else:
        assert 1 <= record["best_epoch"] <= record["epochs"] <= 2
    measured = finished_project.metrics()[network.name]["val_macro_f1"]
    assert measured == pytest.approx(record["val_macro_f1"], abs=0.03), "what the benchmark finds"


def test_prepared_splits_have_the_promised_columns(finished_project):
    for name in ("train", "val", "test"):
        with (finished_project.root / f"data/{name}.csv").open(encoding="utf-8") as lines:
            assert next(csv.reader(lines)) == ["id", "text", "label", "source", "phenomenon"]


def test_second_run_does_nothing(project):
    assert project.repro() == []


def test_status_and_lock_are_current_in_a_clean_clone(project, tmp_path):
    project.run("git", "clone", "--quiet", str(project.root), str(tmp_path / "clone"))
    clone = type(project)(tmp_path / "clone")
    assert "Running stage" not in clone.run("dvc", "repro", "--dry", "--allow-missing").stdout


def test_metrics_show_has_a_row_a_variant_and_diff_reads_as_a_table(project):
    rows = project.run("dvc", "metrics", "show", "--md").stdout.strip().splitlines()[2:]
    shown = sorted(name for row in rows if not (name := row.split("|")[1].strip()).startswith("recipes/"))
    trained = [f"metrics/training/{network.name}.json" for network in PIPELINES["side_by_side"].networks]
    assert shown == sorted([*trained, *(f"metrics/variants/{name}.json" for name in project.metrics())])
    path = project.root / "metrics/variants/kd.json"
    path.write_text(path.read_text().replace('"macro_f1": 0', '"macro_f1": 1'))
    diff = project.run("dvc", "metrics", "diff", "--md").stdout
    assert "macro_f1" in diff and "metrics/variants/kd.json" in diff


def test_results_tables_name_every_variant(project):
    output = project.run("python", "-m", "fincompress", "results").stdout
    grouped = itertools.groupby(output.splitlines(), key=lambda line: line.startswith("| `"))
    tables = [[line.split("`")[1] for line in lines] for is_row, lines in grouped if is_row]
    whole = [[name for name in table if name != "tiny/checkpoint"] for table in tables if len(table) > 8]
    assert len(whole) == 3 and all(sorted(table) == sorted(project.metrics()) for table in whole)
    assert output.count("| `tiny/checkpoint` as published | ") == 1


def test_an_experiment_on_a_network_trains_it_alone_and_shows_its_score(project, monkeypatch):
    output = project.run("dvc", "exp", "run", "-S", "kd.temperature=2", "--name", "cooler", "kd").stdout
    assert ran(output) == ["kd"]
    shown = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv").stdout)).set_index("Experiment")
    assert shown.loc["cooler", "kd.temperature"] == 2
    trained = read_json(project.root / "metrics/training/kd.json")
    for key in ("val_macro_f1", "seconds", "peak_rss_mb"):
        assert shown.loc["cooler", f"metrics/training/kd.json:{key}"] == pytest.approx(trained[key], abs=1e-4)
    monkeypatch.chdir(project.root)  # DVC names stages from here
    outdated = Repo(project.root).status(targets=["dvc.yaml"])
    assert [name for name in outdated if name.startswith("ptq")] == ["ptq@kd"]
    assert not {"teacher", "kd", "ikd", "qat"} & outdated.keys() and {"benchmark", "ship"} <= outdated.keys()


def test_experiment_reruns_what_reads_the_key_and_reverting_restores_training_but_measures_again(project):
    project.measure_only("kd", "kd_ort_int8")
    (project.root / "tiny/tweets.csv").write_text("text,label\nProfit warning,negative\nProfit soars,positive\n")
    project.set_param("evaluate.extra", "tiny/tweets.csv")
    trained = {name: _checksum(project, f"models/{name}/model.safetensors") for name in ("kd", "ikd")}
    samples = _checksum(project, "plots/tables/latency_samples.csv")
    before = quality(project)
    usual = checked_params(project.root / "params.yaml").kd
    changes = ("-S", "kd.temperature=2", "-S", "kd.learning_rate=2e-5")
    output = project.run("dvc", "exp", "run", *changes, "--name", "cooler").stdout
    assert ran(output)[:3] == ["kd", "ptq@kd", "benchmark"] and sorted(ran(output)[3:]) == ["plots", "ship"]
    assert "2e-05" in (project.root / "params.yaml").read_text(), "a float in scientific notation is one to the stage"
    assert "tweets (out of domain), 2 rows" in project.run("python", "-m", "fincompress", "results").stdout
    assert _checksum(project, "models/kd/model.safetensors") != trained["kd"]
    assert _checksum(project, "models/ikd/model.safetensors") == trained["ikd"]
    project.set_params({"kd.temperature": usual.temperature, "kd.learning_rate": usual.learning_rate})
    again = project.repro()
    assert again[0] == "benchmark" and sorted(again[1:]) == ["plots", "ship"]
    assert _checksum(project, "models/kd/model.safetensors") == trained["kd"]
    assert _checksum(project, "plots/tables/latency_samples.csv") != samples
    after = quality(project)
    assert {"teacher", "kd", "kd_ort_int8"} <= after.keys() and after == {name: before[name] for name in after}


def test_same_seed_gives_the_same_models_byte_for_byte(finished_project, fresh_project, tmp_path, monkeypatch):
    """In this process, one stage after another, as in one of its own each; `ptq` of one network stands for all."""
    again = fresh_project.copy(tmp_path / "again")
    monkeypatch.chdir(again.root)
    monkeypatch.setattr(ptq, "ProcessPoolExecutor", lambda *_, **__: ThreadPoolExecutor(1))
    prepare.main()
    for network in PIPELINES["side_by_side"].networks:
        module, *section = network.command
        if network.prepared_by:
            importlib.import_module(f"stages.{network.prepared_by}").main()
        importlib.import_module(module).main(*section)
    ptq.main("ptq", "kd")
    files = [f"models/{name}/model.safetensors" for name in NETWORKS]
    files += ["models/ptq/kd_ov_int8/openvino_model.bin", "models/ptq/kd_ort_int8/model.onnx"]
    for file in (*files, "models/qat/openvino_model.bin", "plots/training/kd/val/loss.tsv"):
        assert _checksum(again, file) == _checksum(finished_project, file), file


def test_every_saved_variant_predicts_in_a_fresh_process_what_the_tables_say(finished_project):
    code = """
import pandas as pd
from pathlib import Path
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.registry import open_classifier

texts = pd.read_csv("data/test.csv")["text"].tolist()
folders = [path.parent for path in Path("models").rglob("config.json")]
columns = {}
for folder in folders:
    files = {path.name for path in folder.iterdir()}
    runtime = "openvino" if "openvino_model.xml" in files else "onnxruntime" if "model.onnx" in files else "torch"
    classifier = open_classifier(folder, runtime, threads=2)
    columns[folder.name] = [classifier.labels[index] for index in predict_logits(classifier, texts).argmax(axis=1)]
print(pd.DataFrame(columns).to_csv(index=False))
"""
    again = pd.read_csv(io.StringIO(finished_project.run("python", "-c", code).stdout))
    reported = pd.read_csv(finished_project.root / "plots/tables/predictions.csv")
    assert len(again.columns) == 19
    for variant in again:
        assert again[variant].tolist() == reported[variant].tolist(), variant


def test_killed_training_resumes_and_ends_as_an_uninterrupted_one(fresh_project, tmp_path, monkeypatch):
    whole, killed = (fresh_project.copy(tmp_path / name) for name in ("whole", "killed"))
    for project in (whole, killed):
        project.set_params({"teacher.epochs": 6, "teacher.patience": 6})
    monkeypatch.chdir(whole.root)
    prepare.main()  # in this process, where everything is imported
    teacher.main("teacher")
    _repro_until_killed(killed, lambda: len(list(killed.root.glob(".scratch/*/checkpoint-*/trainer_state.json"))) >= 2)
    assert not (killed.root / "models/teacher").exists()
    output = killed.run("dvc", "repro", "teacher").stdout
    assert "epoch 1/6" not in output and "epoch 6/6" in output
    for file in ("models/teacher/model.safetensors", "models/teacher/training.json"):
        assert _checksum(killed, file) == _checksum(whole, file)
    for curve in ("train/loss.tsv", "val/macro_f1.tsv"):
        assert _checksum(killed, f"plots/training/teacher/{curve}") == _checksum(
            whole, f"plots/training/teacher/{curve}"
        )
    assert not list(killed.root.glob(".scratch/*"))


def _repro_until_killed(project, ready) -> None:
    """Start `dvc repro teacher` and kill -9 all its processes as soon as `ready`."""
    process = subprocess.Popen(
        ["dvc", "repro", "teacher"],
        cwd=project.root,
        env=project.environment(),
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 600
    while not ready():
        assert process.poll() is None, "training ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _checksum(project, file: str) -> bytes:
    return (project.root / file).read_bytes()


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("teacher.learning_rate", "fast", "teacher.learning_rate"),
        ("kd.temprature", 2.0, "did you mean `temperature`"),
        ("student.layers", 9, "student.layers: 9 is more than the 4"),
        ("student.hidden_size", 64, "student.hidden_size: 64 does not fit"),
        ("teacher.checkpoint", "no/such/folder", "no/such/folder"),
        ("teacher.max_length", 512, "teacher.max_length"),
        ("ikd.layer_map", {0: 4}, "ikd.layer_map: 0: 4 names teacher layer 4"),
        ("prepare.max_rows", 9, "too few"),
        ("prune50.heads_fraction", 0.95, "prune50.heads_fraction: 0.95 would remove 15 of 16 heads"),
    ],
)
def test_impossible_parameter_stops_cleanly_and_names_the_key(project, monkeypatch, capfd, key, value, named):
    project.set_param(key, value)
    section = key.split(".")[0]
    module, *arguments = stage_command(TOP, {"student": "kd"}.get(section, section))
    monkeypatch.chdir(project.root)
    # in this process: starting one takes longer than failing
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    with pytest.raises(SystemExit) as ended:
        stage.run(importlib.import_module(module).main)
    message = capfd.readouterr().err
    assert ended.value.code == 2
    assert named in message and len(message.strip().splitlines()) == 1


def test_no_epochs_take_the_checkpoint_as_published_and_its_scores_are_kept(project, monkeypatch):
    project.set_param("teacher.epochs", 0)
    monkeypatch.chdir(project.root)
    folders = {name: project.root / "untrained" / name for name in ("models", "plots", "metrics")}
    teacher.main("teacher", **folders)
    summary = read_json(project.root / "untrained/models/teacher/training.json")
    assert summary["best_epoch"] == summary["epochs"] == 0
    assert summary["val_macro_f1"] == pytest.approx(summary["published"]["val_macro_f1"], abs=1e-6)
    assert set(summary["published"]["macro_f1_by_source"]) == {"rows"}
    trained = read_json(project.root / "models/teacher/training.json")
    assert trained["published"] == summary["published"] and trained["best_epoch"] > 0
    assert trained["origin"] == {"checkpoint": "tiny/checkpoint", "revision": None, "commit": None}


def test_the_training_cost_benchmark_times_both_ways_on_the_same_student(project, monkeypatch):
    monkeypatch.chdir(project.root)
    command = ["training_cost", "--epochs", "1", "--padded-length", "48", "--write", "cost.md"]
    monkeypatch.setattr(sys, "argv", command)
    training_cost.main()
    page = (project.root / "cost.md").read_text(encoding="utf-8")
    assert "1 epoch on 168 training texts" in page and "pads every text to 48 word pieces" in page
    rows = [line.split("|")[1:4] for line in page.splitlines() if line.startswith(("| straightforward", "| `kd`"))]
    seconds, f1 = ([float(row[column]) for row in rows] for column in (1, 2))
    assert len(rows) == 2 and min(seconds) > 0 and 0 <= min(f1) <= max(f1) <= 1
    ratio = float(re.search(r"\*\*([\d.]+) times as fast", page)[1])
    rounding = 0.005 / seconds[0] + 0.005 / seconds[1]  # of the seconds that the page shows
    assert ratio == pytest.approx(seconds[0] / seconds[1], abs=0.06, rel=rounding + 0.01)


def test_a_typo_stops_the_pipeline_at_the_first_stage_that_runs(project):
    project.set_param("kd.temprature", 2.0)
    result = project.run("dvc", "repro", check=False)
    assert result.returncode != 0 and "Traceback" not in result.stderr
    assert "params.yaml: kd.temprature: unknown key; did you mean `temperature`?" in result.stderr
    assert ran(result.stdout) == ["kd"]


def test_plots_page_opens_without_a_network(project):
    project.run("python", "-m", "fincompress.report.vega_page")
    project.run("dvc", "plots", "show")
    page = (project.root / "dvc_plots/index.html").read_text(encoding="utf-8")
    assert "vegaEmbed" in page and "Validation macro F1" in page and "f1_against_latency.png" in page
    assert "<script src" not in page and "cdn." not in page
    assert list((project.root / "dvc_plots/static").iterdir())
