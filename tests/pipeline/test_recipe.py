"""The recipe under recipes/ runs over the same stages, beside the pipeline at the top and apart from it."""

import csv
import os
import random
import subprocess
import sys

import pandas as pd
import pytest
from conftest import ROOT, SHORT, Project, make_checkpoint, ran
from hub_server import COMMIT, Hub, environment
from local_server import serving
from safetensors.torch import load_file

from fincompress.core.files import read_json
from fincompress.core.registry import PIPELINES
from fincompress.core.sections import AG_NEWS_LABELS

RECIPE = "recipes/distilbert-agnews"
WORDS = {"World": "president", "Sports": "game", "Business": "profit", "Sci/Tech": "software"}
CONVERSIONS = {"quantize@baseline", "quantize@recover"}
STAGES = {"prepare", "baseline", "prune", "recover", *CONVERSIONS, "benchmark", "plots"}
TINY = {
    **SHORT,
    "baseline.checkpoint": "tiny",
    "baseline.max_length": 48,
    "baseline.learning_rate": 1.0e-3,
    "prepare.max_train_rows": 160,
    "recover.epochs": 2,
    "recover.learning_rate": 1.0e-3,
    "quantize.calibration_samples": 10,
}


def news(count: int, seed: int) -> list[tuple[str, str, str]]:
    """Rows in the official form, whose class a word decides."""
    rng = random.Random(seed)
    rows = []
    for number in range(count):
        label = AG_NEWS_LABELS[number % 4]
        words = rng.choices(["the", "company", "said", "sales", "in", "new", "of", "market"], k=6)
        rows.append((str(number % 4 + 1), f"Item {seed}-{number}", f"{' '.join(words)} {WORDS[label]} ."))
    return rows


@pytest.fixture
def recipe(fresh_project, tmp_path) -> Project:
    """A project that was never run, whose recipe has small files of news and short settings."""
    project = fresh_project.copy(tmp_path / "project")
    folder = project.root / RECIPE
    make_checkpoint(folder / "tiny", layers=2)
    (folder / "ag_news").mkdir()
    for name, count in (("train", 200), ("test", 40)):
        with (folder / "ag_news" / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows(news(count, len(name)))
    of_recipe = Project(folder)
    of_recipe.set_params(TINY)
    of_recipe.measure_only("recover", "recover_ort_int8")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "Recipe")
    return project


@pytest.mark.e2e
def test_the_recipe_runs_from_files_to_plots_its_zeros_hold_and_it_resumes_what_is_outdated(recipe):
    stages = recipe.repro(f"{RECIPE}/dvc.yaml")
    ran = [stage.split(":")[1] for stage in stages]  # DVC chooses the order of what does not depend on each other
    assert set(ran) == STAGES and len(ran) == len(STAGES) and ran[-2:] == ["benchmark", "plots"]
    folder = recipe.root / RECIPE
    for network in PIPELINES["stacked"].networks:
        trained = read_json(folder / f"metrics/training/{network.name}.json")
        assert {"val_macro_f1", "seconds", "peak_rss_mb"} < trained.keys(), network.name
        assert ("heads_left" if network.stage == "prune" else "best_epoch") in trained
    about = read_json(folder / "metrics/about/data.json")
    assert about["rows"] == {"all": 200, "train": 144, "val": 16, "test": 40}
    pruned, recovered = (load_file(folder / "models" / name / "model.safetensors") for name in ("prune", "recover"))
    zeros = {name: tensor == 0 for name, tensor in pruned.items() if (tensor == 0).float().mean() > 0.5}
    assert len(zeros) == 6, "two feed-forward matrices in either layer, the pooler and the classifier"
    for name, mask in zeros.items():
        assert (recovered[name][mask] == 0).all() and not recovered[name].equal(pruned[name])
    sparsity = (folder / "plots/pruning/recover/sparsity.csv").read_text(encoding="utf-8").splitlines()
    assert [line.split(",")[0] for line in sparsity[1:]] == [
        *("embeddings", "attention", "feed_forward", "classifier", "other"),
        "overall",
    ]
    records = Project(folder).metrics()
    assert records["baseline"]["speedup"]["value"] == 1
    assert records["recover"]["parameters"] < records["baseline"]["parameters"]
    assert records["recover_ort_int8"]["size_mb"] < records["recover"]["size_mb"] < records["baseline"]["size_mb"]
    page = (folder / "plots/report.html").read_text(encoding="utf-8")
    assert "figure-sparsity" in page and "than the baseline" in page and "teacher" not in page.split("<script")[0]
    shown = subprocess.run(
        [sys.executable, "-m", "fincompress", "results"],
        cwd=folder,
        env={**recipe.environment(), "PYTHONPATH": str(recipe.root)},
        capture_output=True,
        text=True,
    )
    assert "| `recover_ort_int8` |" in shown.stdout, shown.stderr
    Project(folder).set_param("quantize.calibration_samples", 12)
    again = {stage.split(":")[1] for stage in recipe.repro("--dry", f"{RECIPE}/dvc.yaml")}
    assert CONVERSIONS <= again <= CONVERSIONS | {"benchmark", "plots"}


@pytest.mark.e2e
def test_ag_news_and_the_checkpoint_come_from_the_hub_where_no_path_is_given(recipe, tmp_path):
    files = tmp_path / "hub"
    published = files / "dataset/fancyzhx/ag_news/data"
    published.mkdir(parents=True)
    for name, count in (("train", 200), ("test", 40)):
        frame = [{"text": f"{title} {text}", "label": int(label) - 1} for label, title, text in news(count, len(name))]
        pd.DataFrame(frame).to_parquet(published / f"{name}-00000-of-00001.parquet")
    make_checkpoint(files / "model/distilbert/distilbert-base-uncased", layers=2)
    folder = recipe.root / RECIPE
    with serving(Hub(files)) as hub:
        recipe.make("distilbert-agnews", "UNTIL=:baseline", environment=environment(hub, tmp_path / "home"))
    origin = read_json(folder / "metrics/about/data.json")["origins"]["ag_news"]
    assert (origin["repository"], origin["commit"]) == ("fancyzhx/ag_news", COMMIT)
    assert read_json(folder / "models/baseline/training.json")["origin"]["commit"] == COMMIT


def test_an_edit_of_either_params_file_leaves_the_other_pipeline_up_to_date(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    top, recipe = Project(tmp_path / "clone"), Project(tmp_path / "clone" / RECIPE)

    def outdated(project: Project) -> bool:
        """Whether anything would run; an outdated stage whose data the clone lacks makes DVC stop."""
        result = project.run("dvc", "repro", "--dry", "--allow-missing", check=False)
        return result.returncode != 0 or ran(result.stdout) != []

    recipe.set_param("recover.temperature", 2.0)
    recipe.set_param("benchmark.runs", 100)
    assert not outdated(top) and outdated(recipe)
    recipe.run("git", "checkout", "--quiet", ".")
    top.set_param("seed", 7)
    top.set_param("benchmark.runs", 100)
    assert not outdated(recipe) and outdated(top)


def test_the_recipe_has_no_code_of_its_own():
    files = [path for path in (ROOT / RECIPE).rglob("*.py") if "models" not in path.parts]
    assert files == [] and os.path.isfile(ROOT / RECIPE / "dvc.yaml")
