"""Training repeated over seeds: what is run, what is kept when it stops, and what the record says."""

import shutil
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

import pytest
from conftest import ROOT
from dvc.repo import Repo
from scipy import stats
from typer.testing import CliRunner

from fincompress.benchmark import seeds
from fincompress.cli.main import app, main
from fincompress.core.errors import InputError
from fincompress.core.files import read_json


def stage_of(command: list[str]) -> str:
    """The name in dvc.yaml of what a command runs."""
    module = command[2].removeprefix("stages.")
    return f"ptq@{command[4]}" if module == "ptq" else command[3] if module == "prune" else module


def test_a_stage_that_fails_is_named_and_those_before_it_are_not_run_again(tmp_path, monkeypatch):
    ran, fail = [], {"qat"}

    def run(command, env):
        ran.append(stage_of(command))
        assert command[-2:] == ["--seed", "43"] and str(tmp_path / "43") in " ".join(command)
        (tmp_path / "43").mkdir(exist_ok=True)
        return subprocess.CompletedProcess(command, int(ran[-1] in fail))

    monkeypatch.setattr(seeds.subprocess, "run", run)
    with pytest.raises(InputError, match=r"seed 43: the stage qat failed \(exit 1\)"):
        seeds.run_stages(tmp_path / "43", tmp_path / "data", 43)
    assert ran == ["teacher", "kd", "ikd", "prune30", "prune50", "augment", "tiny", "qat"]
    ran.clear()
    fail.clear()
    seeds.run_stages(tmp_path / "43", tmp_path / "data", 43)
    assert ran == ["qat", *(f"ptq@{name}" for name in ("teacher", "kd", "ikd", "prune30", "prune50", "tiny"))]


def test_an_interrupted_stage_interrupts_the_command(tmp_path, monkeypatch):
    monkeypatch.setattr(seeds.subprocess, "run", lambda command, env: subprocess.CompletedProcess(command, 130))
    monkeypatch.setattr(seeds, "_check_up_to_date", lambda: None)
    monkeypatch.setattr(seeds, "kept_folder", lambda *_: tmp_path)
    monkeypatch.setattr(seeds, "_score", lambda *_: {"val_macro_f1": 0.5, "macro_f1": 0.5})
    monkeypatch.setattr(seeds, "read_split", lambda *_: None)
    ended = CliRunner().invoke(app, ["seeds", "--n", "2"])
    assert ended.exit_code == 130 and "the same command goes on from here" in ended.stderr


def test_the_change_over_seeds_is_paired_and_has_a_t_interval():
    """Seeds differ by 10 points, the change by 1: worked by hand, t = 4.302653 at 2 degrees of freedom."""
    found = seeds.change([0.69, 0.78, 0.87], [0.70, 0.80, 0.90])
    assert found == {"value": -0.02, "low": -0.044841, "high": 0.004841}  # 0.02 ± 4.302653 · 0.01 / √3
    unpaired = stats.ttest_ind([0.69, 0.78, 0.87], [0.70, 0.80, 0.90]).confidence_interval()
    assert found["high"] - found["low"] < 0.2 * (unpaired.high - unpaired.low)
    paired = stats.ttest_rel([0.69, 0.78, 0.87], [0.70, 0.80, 0.90]).confidence_interval()
    assert (found["low"], found["high"]) == pytest.approx(tuple(paired), abs=1e-6)


def test_one_seed_has_no_spread():
    with pytest.raises(InputError, match="--n 1: a spread needs at least 2 seeds"):
        seeds.repeat(1)


@pytest.fixture
def dvc_project(tmp_path, monkeypatch) -> Path:
    """A DVC project with the real params and stages, in which nothing has run."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy2(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    Repo.init(no_scm=True)
    return tmp_path


def seeds_error(monkeypatch, capsys) -> str:
    """The line that `fincompress seeds` ends with."""
    monkeypatch.setattr(sys, "argv", ["fincompress", "seeds", "--n", "2"])
    with pytest.raises(SystemExit) as ended:
        main()
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert ended.value.code == 2 and line.startswith("error: ")
    return line


def test_outside_a_project_seeds_says_so_in_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert "params.yaml: not found; run from the folder that holds params.yaml" in seeds_error(monkeypatch, capsys)
    shutil.copy2(ROOT / "params.yaml", tmp_path)
    assert "not inside a DVC project; change into the folder with dvc.yaml" in seeds_error(monkeypatch, capsys)


def test_while_another_command_holds_the_lock_seeds_says_so_in_one_line(dvc_project, monkeypatch, capsys):
    with Repo() as other, other.lock:
        assert "another dvc command holds this project's lock" in seeds_error(monkeypatch, capsys)
    assert "outdated; run `dvc repro` first" in seeds_error(monkeypatch, capsys)


@pytest.mark.parametrize(("file", "content"), [("dvc.yaml", "stages: ["), (".dvc/config", "[core]\nnonsense = 1\n")])
def test_what_dvc_cannot_read_is_one_line_of_seeds(dvc_project, monkeypatch, capsys, file, content):
    (dvc_project / file).write_text(content)
    assert "DVC cannot tell what is up to date" in seeds_error(monkeypatch, capsys)


@pytest.mark.e2e
def test_seeds_are_trained_once_and_their_spread_goes_into_the_report(project, monkeypatch):
    """Of the second seed, `kd` is trained and converted here; the rest is as if an earlier run had got that far."""
    monkeypatch.chdir(project.root)
    monkeypatch.setattr(seeds, "run_stages", _all_but_kd(project.root / "models"))
    with pytest.raises(KeyboardInterrupt):
        seeds.repeat(2)
    output = project.run("python", "-m", "fincompress", "seeds", "--n", "2").stdout
    assert [line for line in output.splitlines() if line.startswith("seed ")] == ["seed 43: kd", "seed 43: ptq@kd"]
    record = read_json(project.root / "metrics/about/seeds.json")
    records = project.metrics()
    others = {"teacher_ort_fp32", "teacher_ov_fp32", "teacher_torch_int8", "bag_of_words"}  # of no saved folder
    assert record["seeds"] == [42, 43] and set(record["variants"]) == set(records) - others
    for name, scores in record["variants"].items():
        for key, spread in scores.items():
            assert spread["values"][0] == pytest.approx(records[name][key], abs=1e-6)
            assert spread["mean"] == pytest.approx(fmean(spread["values"]), abs=1e-6)
            assert spread["std"] == pytest.approx(stdev(spread["values"]), abs=1e-6)
            assert ("change" in spread) == (name != "teacher")
    differs = {name for name, scores in record["variants"].items() if any(part["std"] for part in scores.values())}
    assert differs <= {"kd", "kd_ort_int8", "kd_ov_int8"}, "those of another seed"
    again = project.run("python", "-m", "fincompress", "seeds", "--n", "2").stdout
    assert "seed 43" not in again and read_json(project.root / "metrics/about/seeds.json") == record
    assert sorted(project.repro()) == ["plots", "ship"]
    shown = f"{record['variants']['kd']['macro_f1']['mean']:.3f} ± "
    for file in ("plots/report.html", "models/shipped/kd/README.md"):
        assert shown in (project.root / file).read_text(encoding="utf-8")
    project.set_param("kd.temperature", 2.0)
    outdated = project.run("python", "-m", "fincompress", "seeds", "--n", "2", check=False)
    assert outdated.returncode == 2 and "kd: outdated; run `dvc repro` first" in outdated.stderr


def _all_but_kd(models: Path):
    """Stands for the training of a seed that ends with Ctrl-C when all but `kd` and its conversion is there."""

    def train(folder: Path, seed: int, data: Path) -> None:
        shutil.copytree(models, folder, ignore=shutil.ignore_patterns("kd", "kd_*", "shipped"))
        (folder / ".finished").mkdir()
        for name in seeds.STAGES:
            if name not in ("kd", "ptq@kd"):
                (folder / ".finished" / name).touch()
        raise KeyboardInterrupt

    return train
