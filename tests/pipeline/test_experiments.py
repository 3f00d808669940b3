"""The experiment workflow with the real `dvc`: queue, compare, keep, publish; and what an edit outdates."""

import io
import json
import os
import subprocess
import time

import pandas as pd
import pytest
from conftest import ROOT, Project, ran
from declared import PIPELINES, TOP, command
from dvc.repo import Repo
from local_imports import local_imports
from ruamel.yaml import YAML

STAGES, ARTIFACTS = PIPELINES[TOP]["stages"], PIPELINES[TOP]["artifacts"]
RECIPE = ROOT / "docs/ci/github-actions.yml"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def queued(finished_project, tmp_path_factory) -> Project:
    """The project after a queued grid of two temperatures and two weights, worked off two at a time."""
    project = finished_project.copy(tmp_path_factory.mktemp("queued") / "project")
    grid = ("-S", "kd.temperature=2,8", "-S", "kd.alpha=0.3,0.7")
    output = project.run("dvc", "exp", "run", "--queue", "--name", "grid", *grid).stdout
    assert output.count("Queueing") == 4
    # The workers outlive the command and keep what it writes to: to capture that would be to wait for them.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        ["dvc", "queue", "start", "--jobs", "2"], cwd=project.root, env=project.environment(), check=True, **quiet
    )
    _wait_for_queue(project)
    return project


def _wait_for_queue(project: Project, seconds: int = 2400) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states = project.run("dvc", "queue", "status").stdout
        if "Running" not in states and "Queued" not in states and "0 active" in states:
            assert states.count("Success") == 4, states
            return
        time.sleep(3)
    raise AssertionError(states)


def experiments(project: Project) -> pd.DataFrame:
    """`dvc exp show` as a table, the experiments' rows alone."""
    table = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv").stdout))
    return table[table["Experiment"].astype(str).str.startswith("grid-")].set_index("Experiment")


def test_a_queued_grid_shows_a_row_a_value_with_its_params_and_metrics(queued):
    rows = experiments(queued)
    values = sorted(zip(rows["kd.temperature"], rows["kd.alpha"], strict=True))
    assert values == [(2.0, 0.3), (2.0, 0.7), (8.0, 0.3), (8.0, 0.7)]
    assert rows["metrics/kd.json:macro_f1"].notna().all() and rows["metrics/kd_ort_int8.json:size_mb"].notna().all()
    assert rows["metrics/ikd.json:macro_f1"].nunique() == 1, "the other student does not depend on it"


def test_the_columns_that_the_documentation_chooses_fit_a_terminal(queued):
    command = next(line for line in _documented_commands() if line.startswith("dvc exp show"))
    output = queued.run("bash", "-c", f"{command} --csv").stdout
    shown = pd.read_csv(io.StringIO(output))
    scores = [f"metrics/training/kd.json:{key}" for key in ("val_macro_f1", "seconds")]
    assert set(shown.columns) == {"Experiment", "kd.temperature", "kd.alpha", *scores}


def _documented_commands() -> list[str]:
    """Lines of the page on experiments without comments; a command that goes on in the next line counts as one."""
    lines = (ROOT / "docs/experiments.md").read_text(encoding="utf-8").replace("\\\n", "").splitlines()
    return [line.split("   #")[0].strip() for line in lines]


def test_an_experiment_becomes_the_workspace_or_a_branch(queued, tmp_path):
    project = queued.copy(tmp_path / "project")
    rows = experiments(project)
    best = rows.index[0]
    applied = project.run("dvc", "exp", "apply", best, check=False)
    missing = [line for line in applied.stderr.splitlines() if line.startswith(("models", "data", "recipes"))]
    assert all(line.startswith("recipes/") for line in missing), "another pipeline was never run here, as docs/ say"
    params = YAML(typ="safe").load(project.root / "params.yaml")
    assert (params["kd"]["temperature"], params["kd"]["alpha"]) == tuple(rows.loc[best, ["kd.temperature", "kd.alpha"]])
    assert project.metrics()["kd"]["macro_f1"] == pytest.approx(rows.loc[best, "metrics/kd.json:macro_f1"], abs=1e-5)
    assert project.repro() == [], "what it made is here with it"
    project.run("dvc", "exp", "branch", rows.index[1], "try-it")
    assert "try-it" in project.run("git", "branch", "--list", "try-it").stdout


def test_differences_read_as_markdown_tables(queued):
    first = experiments(queued).index[0]
    metrics = queued.run("dvc", "metrics", "diff", "--md", "HEAD", first).stdout
    assert metrics.startswith("| Path") and "metrics/kd.json" in metrics and "latency_ms.p50" in metrics
    params = queued.run("dvc", "params", "diff", "--md", "HEAD", first).stdout
    assert params.startswith("| Path") and "kd.alpha" in params and "teacher" not in params


def test_two_experiments_share_a_page_of_learning_curves_that_opens_offline(queued):
    queued.run("python", "-m", "fincompress.report.vega_page")
    names = list(experiments(queued).index[:2])
    queued.run("dvc", "plots", "diff", *names, "--out", "compared", "--targets", "Validation macro F1")
    page = (queued.root / "compared" / "index.html").read_text()
    assert all(name in page for name in names) and "<script src" not in page and "cdn" not in page.lower()


def test_an_edit_of_a_module_outdates_exactly_the_stages_that_import_it(finished_project, tmp_path, monkeypatch):
    project = finished_project.copy(tmp_path / "project")
    monkeypatch.chdir(project.root)  # DVC names stages from here
    imports = {stage: local_imports(command(TOP, stage)[0], project.root) for stage in STAGES}
    assert Repo(project.root).status(targets=["dvc.yaml"]) == {}
    for file in sorted(project.root.glob("fincompress/*.py")):
        before, module = file.read_text(), str(file.relative_to(project.root))
        file.write_text(before + "# a comment\n")
        outdated = set(Repo(project.root).status(targets=["dvc.yaml"]))
        file.write_text(before)
        assert outdated == {stage for stage, files in imports.items() if module in files}, module


@pytest.fixture(scope="module")
def published(finished_project, tmp_path_factory) -> Project:
    """The project with all that it made in a remote."""
    root = tmp_path_factory.mktemp("published")
    project = finished_project.copy(root / "project")
    project.run("python", "-m", "fincompress", "remote", "local", str(root / "checkpoints"))
    project.run("dvc", "remote", "modify", "local", "url", str(root / "checkpoints"))
    project.run("git", "commit", "--quiet", "--all", "--message", "Share the remote")
    project.run("git", "tag", "--annotate", "ikd-ort-int8@v1.0.0", "--message", "Release the int8 student")
    project.run("dvc", "push")
    return project


def test_a_clean_clone_with_a_filled_remote_has_nothing_to_do_but_predict(published, tmp_path):
    published.run("git", "clone", "--quiet", str(published.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("dvc", "pull", "dvc.yaml")
    assert clone.repro() == []
    output = clone.run("python", "-m", "fincompress", "predict", "Profit rose.", "Sales fell.").stdout
    lines = [line.split("\t") for line in output.splitlines()]
    assert [line[2] for line in lines] == ["Profit rose.", "Sales fell."]
    assert all(line[0] in ("negative", "neutral", "positive") and 1 / 3 < float(line[1]) <= 1 for line in lines)
    command = ("python", "-m", "fincompress", "predict", "--json", "--model", "models/kd")
    piped = clone.run(*command, stdin="Profit rose.\n\nSales fell.\n")
    records = [json.loads(line) for line in piped.stdout.splitlines()]
    assert [record["text"] for record in records] == ["Profit rose.", "Sales fell."]
    assert all(sum(record["probabilities"].values()) == pytest.approx(1) for record in records)
    missing = clone.run("python", "-m", "fincompress", "predict", "x", "--model", "models/none", check=False)
    assert missing.returncode == 2 and "models/none: no model there" in missing.stderr


@pytest.mark.parametrize("command", ["get", "artifacts"])
def test_another_repository_gets_a_released_model(published, tmp_path, command):
    consumer = Project(tmp_path)
    artifact = ARTIFACTS["ikd-ort-int8"]
    if command == "get":
        consumer.run("dvc", "get", str(published.root), artifact["path"], "--out", "model")
    else:
        consumer.run("dvc", "artifacts", "get", str(published.root), "ikd-ort-int8", "--out", "model")
    shipped = {path.name: path.read_bytes() for path in (published.root / artifact["path"]).iterdir()}
    found = {path.name: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    assert found == shipped


def test_released_models_are_outputs_with_a_type_labels_and_a_description():
    shipped = YAML(typ="safe").load(ROOT / "params.yaml")["ship"]["variants"]
    assert {artifact["path"] for artifact in ARTIFACTS.values()} == {f"models/shipped/{name}" for name in shipped}
    for name, artifact in ARTIFACTS.items():
        assert artifact["path"].endswith(name.replace("-", "_")) and artifact["type"] == "model", name
        assert artifact["desc"] and artifact["labels"], name


def test_the_ci_recipe_pulls_rebuilds_and_reports(published, tmp_path):
    """Every command of the recipe but the building of the environment, in a clone, on a branch that changes a knob."""
    published.run("git", "clone", "--quiet", str(published.root), str(tmp_path / "clone"))
    clone = Project(tmp_path / "clone")
    clone.run("git", "checkout", "--quiet", "-b", "cooler")
    clone.set_param("plots.dpi", 60)
    job = YAML(typ="safe").load(RECIPE)["jobs"]["pipeline"]
    summary = tmp_path / "summary.md"
    environment = {**clone.environment(), "GITHUB_STEP_SUMMARY": str(summary), "BASE": "main"}
    output = ""
    for step in job["steps"]:
        if "run" in step and "make env" not in step["run"]:
            command = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
            result = subprocess.run(command, cwd=clone.root, env=environment, capture_output=True, text=True)
            assert result.returncode == 0, f"{step['name']}:\n{result.stdout}\n{result.stderr}"
            output += result.stdout
    assert ran(output) == ["plots"]
    report = summary.read_text()
    assert "plots.dpi" in report and "| Path" in report
    assert os.path.isfile(clone.root / "dvc_plots/index.html")
