"""Training in several processes: the same metrics as one, one voice, errors and Ctrl-C as ever."""

import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
from conftest import LABELS, Project, make_tokenizer

from fincompress.core import processes as distributed
from fincompress.core import stage
from fincompress.core.errors import InputError
from fincompress.core.files import read_json, write_json
from fincompress.core.params import load_params
from stages import ikd, kd, prune, qat, teacher

TRAINED = ("teacher", "ikd", "prune30", "qat")  # every objective, and rounds that are saved in between


def test_alone_there_is_nobody_to_wait_for():
    assert distributed.processes() == 1 and distributed.is_main()
    distributed.wait()
    assert distributed.agreed([1, 2]) == [1, 2]


def test_a_process_beside_the_main_one_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(distributed, "_joined", True)
    monkeypatch.setenv("RANK", "1")
    write_json(tmp_path / "new.json", {})
    assert list(tmp_path.iterdir()) == []


def test_the_environment_alone_does_not_make_a_process_one_of_several(tmp_path, monkeypatch):
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():  # as a cluster's scheduler sets them
        monkeypatch.setenv(name, value)
    write_json(tmp_path / "new.json", {})
    assert (tmp_path / "new.json").is_file() and distributed.processes() == 1


def test_a_batch_that_cannot_be_shared_is_named(monkeypatch):
    monkeypatch.setattr(distributed, "_joined", True)
    monkeypatch.setenv("WORLD_SIZE", "3")
    with pytest.raises(InputError, match=r"params.yaml: kd.batch_size: 32 texts cannot be shared by 3 processes"):
        load_params(kd.Needs)


@pytest.mark.parametrize("value", ["two", "0", "-1"])
def test_what_is_no_number_of_processes_is_one_line(monkeypatch, capfd, value):
    monkeypatch.setenv(distributed.VARIABLE, value)
    monkeypatch.setattr(sys, "argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        stage.run(lambda: None, trains=True)
    message = capfd.readouterr().err
    assert ended.value.code == 2 and len(message.splitlines()) == 1
    assert f"FINCOMPRESS_PROCESSES: `{value}` is not a number of processes" in message


@pytest.mark.parametrize(("given", "kept"), [(None, "0"), ("2,3", "2"), ("", ""), ("MIG-a,MIG-b", "MIG-a")])
def test_one_process_keeps_one_gpu(monkeypatch, given, kept):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    monkeypatch.setattr(sys, "argv", ["stage"])
    seen = []
    with pytest.raises(SystemExit):
        stage.run(lambda: seen.append(os.environ["CUDA_VISIBLE_DEVICES"]), trains=True)
    assert seen == [kept]


@pytest.fixture(scope="module")
def learnable(fresh_project, tmp_path_factory) -> Project:
    """A project whose labels a tiny network learns to tell in seconds: one word each."""
    project = fresh_project.copy(tmp_path_factory.mktemp("distributed") / "project")
    words = sorted(word for word in make_tokenizer().get_vocab() if word.isalpha() and len(word) > 5)
    generator = random.Random(0)

    def text(key: str) -> str:
        others = generator.choices(words[len(LABELS) :], k=generator.randint(3, 12))
        return " ".join(generator.sample([key, *others], k=len(others) + 1))

    rows = [{"text": text(words[index]), "label": label} for index, label in enumerate(LABELS) for _ in range(160)]
    pd.DataFrame(rows).to_csv(project.root / "tiny/rows.csv", index=False)
    training = {
        "epochs": 15,
        "patience": 15,
        "batch_size": 16,
        "learning_rate": 3.0e-3,
        "dropout": 0.0,
        "freeze_word_embeddings": False,
    }
    project.set_params(
        {
            "prepare.files.phenomenon_column": None,
            **{f"{section}.{key}": value for section in (*TRAINED, "kd") for key, value in training.items()},
            "qat.learning_rate": 1.0e-3,
            "qat.epochs": 3,  # it starts from a network that has learnt, as does what is left of a pruned one
            "prune30.epochs": 3,
        }
    )
    project.repro("prepare")
    return project


@pytest.mark.e2e
def test_two_processes_train_as_one_does(learnable, tmp_path, monkeypatch, capsys):
    one, two = (learnable.copy(tmp_path / name) for name in ("one", "two"))
    monkeypatch.chdir(one.root)
    teacher.main("teacher")  # in this process, where everything is imported
    ikd.main()
    qat.main()
    prune.main("prune30")
    monkeypatch.setenv(distributed.VARIABLE, "2")
    outputs = capsys.readouterr().out, two.run("dvc", "repro", "qat", "prune30").stdout
    for project in (one, two):
        assert not list((project.root / ".scratch").iterdir()), "every stage has cleaned up"
        assert not [path.name for path in (project.root / "models").iterdir() if path.name.startswith(".")]
    for name in TRAINED:
        alone, shared = (read_json(project.root / f"models/{name}/training.json") for project in (one, two))
        assert shared.keys() == alone.keys()
        assert shared["val_macro_f1"] == pytest.approx(alone["val_macro_f1"], abs=0.06), name
        assert shared["val_macro_f1"] > 0.8, f"{name} has learnt"
    for line in ("teacher: val macro F1", "epoch 15/15", "round 2/2"):
        assert outputs[0].count(line) == outputs[1].count(line) > 0, "one process speaks"


@pytest.mark.e2e
def test_ctrl_c_ends_all_processes_and_the_same_command_goes_on(learnable, tmp_path):
    project = learnable.copy(tmp_path / "project")
    project.set_params({"teacher.epochs": 40, "teacher.patience": 40})
    command = [sys.executable, "-m", "stages.teacher", "teacher"]
    environment = {**project.environment(), distributed.VARIABLE: "2"}
    options = {"cwd": project.root, "env": environment, "text": True, "stderr": subprocess.PIPE}
    start = time.monotonic()
    process = subprocess.Popen(command, **options, stdout=subprocess.PIPE, start_new_session=True)
    deadline = time.monotonic() + 600
    while not list(project.root.glob(".scratch/teacher-*/checkpoint-*/trainer_state.json")):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr.read()
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=600)
    taken = time.monotonic() - start
    assert process.returncode == 130 and not (project.root / "models").exists()
    assert "Traceback" not in errors and errors.count("interrupted; `dvc repro` takes training up again") == 1
    (elapsed,) = project.root.glob(".scratch/teacher-*/elapsed.json")
    assert 0 < read_json(elapsed)["seconds"] < taken, "what training took, without the start of its processes"
    write_json(elapsed, {"seconds": 1000.0})  # longer than the rest can take, to be told from it
    resumed = subprocess.run(command, **options, stdout=subprocess.PIPE, timeout=600)
    assert resumed.returncode == 0, resumed.stderr
    assert "epoch 1/40" not in resumed.stdout and "epoch 40/40" in resumed.stdout
    assert 1000 < read_json(project.root / "metrics/training/teacher.json")["seconds"] < 1600
