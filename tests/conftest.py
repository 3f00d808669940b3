"""Shared fixtures: a tiny random checkpoint, and a temporary clone of the project that runs on it in seconds."""

import copy
import fcntl
import functools
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest
import torch
from hypothesis import settings
from ruamel.yaml import YAML

os.environ["HF_HUB_OFFLINE"] = "1"  # before transformers reads it: no test may look for a hub
os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that tests start

from datasets import Dataset
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from fincompress.core.files import read_json, write_json
from fincompress.data.sources import read_embedded
from fincompress.networks.batches import tokenise

torch.set_num_threads(1)  # tiny models gain nothing from more, and side by side lose much
settings.register_profile("unhurried", deadline=None)  # two workers of pytest share the machine
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def whole_floats():
    """Undo what training sets for the whole process: hypothesis refuses to work with the smallest floats as zeros."""
    yield
    torch.set_flush_denormal(False)


ROOT = Path(__file__).resolve().parent.parent
LABELS = ["negative", "neutral", "positive"]
NETWORKS = ("teacher", "kd", "ikd", "prune30", "prune50", "tiny")
"""Those that are quantised after training."""
SHORT = {
    "benchmark.runs": 20,
    "benchmark.warmups": 4,
    "benchmark.rounds": 2,
    "benchmark.side_rounds": 1,
    "benchmark.threads": 1,
    "benchmark.padded_length": 48,
    "benchmark.lengths": [16, 48],
    "benchmark.batch_sizes": [1, 4],
    "benchmark.cold_starts": 0,
    "evaluate.bootstrap_resamples": 200,
    "benchmark.max_repeats": 0,
    "plots.dpi": 50,
}
"""Params of any pipeline with which its measurements take seconds, for texts of at most 48 word pieces."""


def few_rows(count: int) -> pd.DataFrame:
    """The first `count` rows of each label of the embedded corpus, label by label."""
    return pd.concat(rows.head(count) for _, rows in read_embedded().groupby("label"))


@functools.cache
def make_tokenizer() -> PreTrainedTokenizerFast:
    """A word-piece tokenizer of 600 pieces: characters, and the commonest words of the embedded corpus.

    Counted here rather than trained, since WordPiece's trainer breaks ties at random and every run would get
    another tokenizer.
    """
    words = Counter(word for text in read_embedded()["text"] for word in re.findall(r"[a-z]+", text.lower()))
    frequent = sorted(words, key=lambda word: (-words[word], word))
    characters = sorted({character for text in read_embedded()["text"] for character in text.lower()} - {" "})
    specials = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    pieces = dict.fromkeys([*specials, *characters, *(f"##{character}" for character in characters), *frequent])
    vocabulary = {piece: index for index, piece in enumerate(list(pieces)[:600])}
    tokenizer = BertWordPieceTokenizer(vocab=vocabulary, lowercase=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer._tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def make_checkpoint(folder: Path, labels: list[str] = LABELS, layers: int = 4, hidden_size: int = 32) -> Path:
    """Save a random BERT classifier with its tokenizer."""
    tokenizer = make_tokenizer()
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=4,
        intermediate_size=2 * hidden_size,
        max_position_embeddings=64,
        id2label=dict(enumerate(labels)),
        label2id={label: index for index, label in enumerate(labels)},
    )
    torch.manual_seed(0)
    BertForSequenceClassification(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A 4-layer, 32-wide random classifier over negative, neutral, positive."""
    return make_checkpoint(tmp_path_factory.mktemp("checkpoint") / "tiny")


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    """That of the tiny checkpoint, cutting texts at 48 pieces."""
    tokenizer = copy.deepcopy(make_tokenizer())
    tokenizer.model_max_length = 48
    return tokenizer


@pytest.fixture
def rows(tokenizer) -> Dataset:
    """24 labelled and tokenised rows of unlike lengths."""
    return tokenise(few_rows(8), LABELS, tokenizer)


@dataclass
class Project:
    """A temporary Git and DVC project with the code under test."""

    root: Path

    def run(self, *command: str, check: bool = True, stdin: str | None = None) -> subprocess.CompletedProcess:
        """Run a command in the project with this interpreter's environment first on the path; `stdin` is its input."""
        result = subprocess.run(
            command, cwd=self.root, env=self.environment(), input=stdin, capture_output=True, text=True, timeout=1800
        )
        if check and result.returncode:
            raise AssertionError(f"{' '.join(command)} exited {result.returncode}:\n{result.stdout}\n{result.stderr}")
        return result

    def make(self, target: str, *arguments: str, environment: dict[str, str]) -> str:
        """`make` with this interpreter's environment as the project's own; returns what it printed."""
        ready = Path(sys.prefix) / ".ready"
        result = subprocess.run(
            ["make", target, f"VENV={sys.prefix}", "-o", str(ready), *arguments],
            cwd=self.root,
            env={**self.environment(), **environment},
            capture_output=True,
            text=True,
            timeout=1800,
        )
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout

    def environment(self) -> dict[str, str]:
        """The environment a person has after activating the virtual environment."""
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, "HF_HUB_OFFLINE": "1", "PYTHONDONTWRITEBYTECODE": "1"}

    def set_param(self, key: str, value) -> None:
        """Edit one key of params.yaml, leaving comments as they are."""
        self.set_params({key: value})

    def set_params(self, values: dict) -> None:
        """Edit several keys of params.yaml at once."""
        yaml, path = YAML(), self.root / "params.yaml"
        content = yaml.load(path)
        for key, value in values.items():
            *sections, name = key.split(".")
            section = content
            for part in sections:
                section = section[part]
            section[name] = value
        yaml.dump(content, path)

    def measure_only(self, *variants: str) -> None:
        """Have `benchmark` measure these variants alone, beside the reference, and `ship` copy no others."""
        self.set_param("benchmark.variants", list(variants))
        if "ship" in YAML(typ="safe").load(self.root / "params.yaml"):
            self.set_param("ship.variants", list(variants))

    def repro(self, *arguments: str) -> list[str]:
        """`dvc repro`; returns the stages that ran, in order."""
        return ran(self.run("dvc", "repro", *arguments).stdout)

    def metrics(self) -> dict[str, dict]:
        """Variant -> the record in metrics/variants."""
        return {path.stem: read_json(path) for path in sorted((self.root / "metrics/variants").glob("*.json"))}

    def copy(self, target: Path) -> "Project":
        """An independent copy with its own Git repository and cache."""
        shutil.copytree(self.root, target, symlinks=True)
        return Project(target)


def ran(output: str) -> list[str]:
    """The stages that DVC's output says it ran."""
    return [line.split("'")[1] for line in output.splitlines() if line.startswith("Running stage")]


def project_files() -> list[str]:
    """Files of the project that Git tracks or would track."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True
    )
    files = listed.stdout.splitlines()
    return [file for file in files if (ROOT / file).is_file()]


@pytest.hookimpl(tryfirst=True)  # pytest-xdist reads the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Order and group tests so that two workers (`--dist loadgroup --no-loadscope-reorder`) end at the same time.

    The first test builds the finished project while the other worker does what needs none; what is short comes last.
    Tests that share a fixture of their module stay together, any other goes to the worker that is free.
    """
    for item in items:
        if _shares_module_fixture(item):
            item.add_marker(pytest.mark.xdist_group(item.path.stem))
    builders = [item for item in items if "finished_project" in item.fixturenames]
    first = next((item for item in builders if item.get_closest_marker("xdist_group")), None)

    def place(item: pytest.Item) -> int:
        if first is not None and item.path == first.path and _shares_module_fixture(item):
            return 0
        if "finished_project" in item.fixturenames:
            return 2
        return 1 if item.get_closest_marker("e2e") or item.get_closest_marker("xdist_group") else 3

    items.sort(key=place)  # stable: within each, as they are written


def _shares_module_fixture(item: pytest.Item) -> bool:
    return any(fixtures[-1].scope == "module" for fixtures in item._fixtureinfo.name2fixturedefs.values())


def built_once(tmp_path_factory, name: str, build: Callable[[Path], None]) -> Path:
    """A folder that `build` fills, once for all workers of a run: the first to ask builds, the others wait."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, done = shared / "shared" / name, shared / f"{name}.done"
    with (shared / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # given up when the file is closed, and when a worker dies
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # what a build that failed has left
            build(folder)
            done.touch()
    return folder


@pytest.fixture(scope="session")
def fresh_project(tmp_path_factory, checkpoint) -> Project:
    """The project as committed, before its first run, with tiny data, a tiny checkpoint and short measurements.

    Copy it before changing anything: all workers have the same one.
    """
    return Project(built_once(tmp_path_factory, "fresh", functools.partial(_start_project, checkpoint=checkpoint)))


def _start_project(root: Path, checkpoint: Path) -> None:
    for file in project_files():
        inside = file.removeprefix("/".join(file.split("/")[:2]) + "/") if file.startswith("recipes/") else file
        if inside == "dvc.lock" or inside.startswith(("metrics/", "plots/", "docs/")):
            continue
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / file, root / file)
    shutil.copytree(checkpoint, root / "tiny" / "checkpoint")
    write_json(root / "metrics/about/seeds.json", {})  # the project's own is of other models
    few_rows(80).to_csv(root / "tiny/rows.csv", index=False)
    project = Project(root)
    values = {
        "prepare.source": "files",
        "prepare.files.path": "tiny/rows.csv",
        "prepare.files.phenomenon_column": "phenomenon",
        "prepare.split.val": 0.15,
        "prepare.split.test": 0.15,
        "teacher.checkpoint": "tiny/checkpoint",
        "teacher.max_length": 48,
        "teacher.epochs": 2,
        "teacher.learning_rate": 1.0e-3,
        "student.layers": 2,
        "student.hidden_size": 32,
        "student.attention_heads": 4,
        "student.intermediate_size": 64,
        "kd.epochs": 2,
        "ikd.epochs": 2,
        **{
            f"{stage}.{key}": value
            for stage in ("prune30", "prune50")
            for key, value in {"heads_per_round": 0.25, "learning_rate": 1.0e-3}.items()
        },
        "augment.variants": 1,
        "tiny.layers": 1,
        "tiny.attention_heads": 2,
        "tiny.intermediate_size": 32,
        "tiny.epochs": 2,
        "qat.calibration_samples": 10,
        "qat.learning_rate": 1.0e-4,
        "ptq.calibration_samples": 10,
        "ptq.embedding_group": 2,
        **SHORT,
    }
    project.set_params(values)
    project.run("git", "init", "--quiet", "--initial-branch=main")
    project.run("git", "config", "user.name", "Test")
    project.run("git", "config", "user.email", "test@example.invalid")
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "Start")


@pytest.fixture(scope="session")
def finished_project(fresh_project, tmp_path_factory) -> Project:
    """The project after its first full `dvc repro`, committed; every variant is measured.

    Copy it before changing anything, and before running `dvc` in it: all workers have the same one.
    """
    return Project(built_once(tmp_path_factory, "finished", functools.partial(_run_project, fresh=fresh_project)))


def _run_project(root: Path, fresh: Project) -> None:
    project = fresh.copy(root)
    stages = project.repro()
    trained = ["augment", "ikd", "kd", "prune30", "prune50", "qat", "tiny"]
    middle = [*trained, *(f"ptq@{name}" for name in NETWORKS)]  # DVC chooses the order
    assert stages[:2] == ["prepare", "teacher"] and sorted(stages[2:-3]) == sorted(middle)
    assert stages[-3] == "benchmark" and sorted(stages[-2:]) == ["plots", "ship"]
    project.run("git", "add", "--all")
    project.run("git", "commit", "--quiet", "--message", "First run")


@pytest.fixture
def project(finished_project, tmp_path) -> Project:
    """A copy of the finished project to work on."""
    return finished_project.copy(tmp_path / "project")
