"""The experiment workflow with the real `dvc`: queue, compare, keep, publish; and what an edit outdates."""

import io
import json
import os
import subprocess
import time

import pandas as pd
import pytest
from conftest import ROOT, Project, ran
from declared import PIPELINES, STAGES, TOP
from dvc.repo import Repo
from ruamel.yaml import YAML

from fincompress.core.files import read_json

ARTIFACTS = PIPELINES[TOP]["artifacts"]
SCORE = "metrics/training/kd.json:val_macro_f1"
RECIPE = ROOT / "docs/ci/github-actions.yml"

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def queued(finished_project, tmp_path_factory) -> Project:
    """The project after a queued grid of two temperatures, of which `kd` alone was trained, two at a time."""
    project = finished_project.copy(tmp_path_factory.mktemp("queued") / "project")
    grid = ("-S", "kd.temperature=2,8", "-S", "kd.alpha=0.3", "kd")
    output = project.run("dvc", "exp", "run", "--queue", "--name", "grid", *grid).stdout
    assert output.count("Queueing") == 2
    # The workers outlive the command and keep what it writes to: to capture that would be to wait for them.
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run(
        ["dvc", "queue", "start", "--jobs", "2"], cwd=project.root, env=project.environment(), check=True, **quiet
    )
    _wait_for_queue(project, tasks=2)
    return project


def _wait_for_queue(project: Project, tasks: int, seconds: int = 1200) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states = project.run("dvc", "queue", "status").stdout
        if "Running" not in states and "Queued" not in states and "0 active" in states:
            assert states.count("Success") == tasks, states
            return
        time.sleep(3)
    raise AssertionError(states)


def experiments(project: Project) -> pd.DataFrame:
    """`dvc exp show` as a table, the experiments' rows alone."""
    table = pd.read_csv(io.StringIO(project.run("dvc", "exp", "show", "--csv").stdout))
    return table[table["Experiment"].astype(str).str.startswith("grid-")].set_index("Experiment")


def test_a_queued_grid_shows_a_row_a_value_with_its_params_and_metrics(queued):
    rows = experiments(queued)
    assert sorted(zip(rows["kd.temperature"], rows["kd.alpha"], strict=True)) == [(2.0, 0.3), (8.0, 0.3)]
    assert rows[SCORE].between(0, 1).all() and (rows["metrics/training/kd.json:seconds"] > 0).all()
    others = [column for column in rows if column.startswith("metrics/") and "training/kd.json" not in column]
    assert others and all(rows[column].nunique() <= 1 for column in others), "nothing else ran"


def test_the_columns_that_the_documents_choose_fit_a_terminal(queued):
    command = next(line for line in _documented_commands() if line.startswith("dvc exp show --"))
    output = queued.run("bash", "-c", f"{command} --csv").stdout
    shown = pd.read_csv(io.StringIO(output))
    scores = set(shown.columns) - {"Experiment", "kd.temperature", "kd.alpha"}
    assert len(shown.columns) == len(scores) + 3 <= 6 and SCORE in scores
    assert all(column.startswith("metrics/training/kd.json:") for column in scores)


def _documented_commands() -> list[str]:
    """Every line of README.md and docs/ without its comment; one that goes on in the next line counts as one."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    lines = "\n".join(page.read_text(encoding="utf-8") for page in pages).replace("\\\n", "").splitlines()
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
    trained = read_json(project.root / "metrics/training/kd.json")
    assert trained["val_macro_f1"] == pytest.approx(rows.loc[best, SCORE], abs=1e-5)
    assert project.repro("kd") == [], "what it made is here with it"
    project.run("dvc", "exp", "branch", rows.index[1], "try-it")
    assert "try-it" in project.run("git", "branch", "--list", "try-it").stdout


def test_differences_read_as_markdown_tables(queued):
    first = experiments(queued).index[0]
    metrics = queued.run("dvc", "metrics", "diff", "--all", "--md", "HEAD", first).stdout
    assert metrics.startswith("| Path") and "metrics/training/kd.json | val_macro_f1 " in " ".join(metrics.split())
    assert "metrics/variants/kd.json | latency_ms.p50 " in " ".join(metrics.split())
    params = queued.run("dvc", "params", "diff", "--md", "HEAD", first).stdout
    assert params.startswith("| Path") and "kd.alpha" in params and "teacher" not in params


def test_two_experiments_share_a_page_of_learning_curves_that_opens_offline(queued):
    queued.run("python", "-m", "fincompress.report.vega_page")
    names = list(experiments(queued).index[:2])
    queued.run("dvc", "plots", "diff", *names, "--out", "compared", "--targets", "Validation macro F1")
    page = (queued.root / "compared" / "index.html").read_text()
    assert all(name in page for name in names) and "<script src" not in page and "cdn" not in page.lower()


def test_an_edit_of_a_module_outdates_exactly_the_stages_that_declare_it_or_its_room(project, monkeypatch):
    """Whether they declare what they import is tested beside dvc.yaml; this is what DVC makes of it."""
    monkeypatch.chdir(project.root)  # DVC names stages from here
    declared = {name: stage["deps"] for (folder, name), stage in STAGES.items() if folder == TOP}
    repo = Repo(project.root)
    with repo.lock:  # one index for all edits, which leave dvc.yaml as it is
        stages = {stage.addressing: stage for stage in repo.index.stages if stage.path_in_repo == "dvc.yaml"}
        assert stages.keys() == declared.keys() and not any(stage.changed_deps() for stage in stages.values())
        code = {
            name: [dep for dep in stage.deps if dep.def_path.startswith(("fincompress/", "stages/"))]
            for name, stage in stages.items()
        }
        for file in sorted([*project.root.glob("fincompress/**/*.py"), *project.root.glob("stages/*.py")]):
            before, module = file.read_text(), file.relative_to(project.root).as_posix()
            file.write_text(before + "# a comment\n")
            outdated = {name for name, deps in code.items() if any(dep.changed_checksum() for dep in deps)}
            file.write_text(before)
            assert outdated == {name for name, deps in declared.items() if _covers(deps, module)}, module


def _covers(deps: list[str], file: str) -> bool:
    """Whether a file is a dep, or lies in one."""
    return any(file == dep or file.startswith(f"{dep}/") for dep in deps)


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
        if "run" in step and "make drive" not in step["run"]:
            command = ["bash", "-e", "-o", "pipefail", "-c", step["run"]]
            result = subprocess.run(command, cwd=clone.root, env=environment, capture_output=True, text=True)
            assert result.returncode == 0, f"{step['name']}:\n{result.stdout}\n{result.stderr}"
            output += result.stdout
    assert ran(output) == ["plots"]
    report = summary.read_text()
    assert "plots.dpi" in report and "| Path" in report
    assert os.path.isfile(clone.root / "dvc_plots/index.html")
