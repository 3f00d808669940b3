"""Predictions that are kept: a model is scored once per content, and never taken for another."""

import os
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import LABELS

from fincompress.benchmark import predictions
from fincompress.benchmark.predictions import Predictions
from fincompress.benchmark.protocol import Measurements, measure
from fincompress.benchmark.workers import Worker
from fincompress.core.sections import BenchmarkParams
from fincompress.core.variants import Variant
from fincompress.data.sources import read_embedded
from fincompress.runtimes.bag_of_words import BagOfWords

PARAMS = BenchmarkParams(
    variants="all",
    runs=1,
    warmups=0,
    rounds=1,
    side_rounds=1,
    threads=1,
    padded_length=8,
    batch_size=1,
    lengths=[8],
    batch_sizes=[1],
    cold_starts=0,
    load_threshold=1.0,
    max_repeats=0,
)
TEXTS = {"val": ["profit rose", "sales fell"], "test": ["profit fell", "sales rose", "nothing happened"]}
LOGITS = np.arange(9, dtype=np.float32).reshape(3, 3)


@pytest.fixture
def teacher(tmp_path) -> Variant:
    folder = tmp_path / "teacher"
    BagOfWords.fit(read_embedded().head(200), LABELS).save(folder)
    return Variant("teacher", "teacher", "bag_of_words", folder)


@pytest.fixture
def scored(tmp_path, monkeypatch):
    """Measures a variant, and says which splits its worker was asked to score."""
    ask = Worker.ask

    def run(variant: Variant, texts: dict[str, list[str]] = TEXTS) -> tuple[Measurements, list[str]]:
        asked = []

        def asking(worker, name, *arguments):
            asked.extend(split for split, rows in texts.items() if name == "logits" and arguments == (rows,))
            return ask(worker, name, *arguments)

        monkeypatch.setattr(Worker, "ask", asking)
        kept = Predictions([variant], PARAMS.threads, tmp_path / "kept")
        return measure([variant], texts, PARAMS, 0, kept), asked

    return run


def test_an_unchanged_model_is_not_scored_again_and_a_changed_byte_is(teacher, scored, tmp_path):
    first, asked = scored(teacher)
    assert asked == ["val", "test"]
    moved = replace(teacher, folder=shutil.copytree(teacher.folder, tmp_path / "elsewhere"))
    again, asked = scored(moved)
    assert asked == [], "the same bytes in another folder"
    for split in TEXTS:
        np.testing.assert_array_equal(again.logits["teacher"][split], first.logits["teacher"][split])
    weights = bytearray((teacher.folder / "model.safetensors").read_bytes())
    weights[-1] ^= 1
    (teacher.folder / "model.safetensors").write_bytes(weights)
    assert scored(teacher)[1] == ["val", "test"]


def test_only_texts_that_changed_are_scored_again(teacher, scored):
    scored(teacher)
    assert scored(teacher, {**TEXTS, "extra": ["a new text"]})[1] == ["extra"]
    assert scored(teacher, {**TEXTS, "test": TEXTS["test"][::-1]})[1] == ["test"]


@pytest.mark.parametrize("content", [b"", b"PK half a file", None])
def test_an_entry_that_cannot_be_read_is_made_again(teacher, scored, tmp_path, content):
    first = scored(teacher)[0]
    for path in (tmp_path / "kept").iterdir():
        path.write_bytes(path.read_bytes()[:-30] if content is None else content)
    again, asked = scored(teacher)
    assert asked == ["val", "test"] and scored(teacher)[1] == []
    np.testing.assert_array_equal(again.logits["teacher"]["test"], first.logits["teacher"]["test"])


@pytest.mark.parametrize("wrong", [LOGITS[:2], LOGITS[:, :2], LOGITS.astype(float), LOGITS.astype(object)])
def test_an_entry_of_another_shape_or_type_is_none(teacher, tmp_path, wrong):
    kept = Predictions([teacher], 1, tmp_path / "kept")
    kept.keep(teacher, TEXTS["test"], wrong)
    assert kept.find(teacher, TEXTS["test"], 3) is None
    kept.keep(teacher, TEXTS["test"], LOGITS)
    np.testing.assert_array_equal(kept.find(teacher, TEXTS["test"], 3), LOGITS)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("cpu_name", lambda: "another processor"),
        ("vector_instructions", lambda: []),
        ("libraries", lambda: {"torch": "0"}),
        ("_digest_of_code", lambda package: "changed"),
    ],
)
def test_what_could_alter_predictions_leads_to_another_entry(teacher, tmp_path, monkeypatch, name, other):
    Predictions([teacher], 1, tmp_path / "kept").keep(teacher, TEXTS["test"], LOGITS)
    assert Predictions([teacher], 1, tmp_path / "kept").find(teacher, TEXTS["test"], 3) is not None
    assert Predictions([teacher], 2, tmp_path / "kept").find(teacher, TEXTS["test"], 3) is None
    elsewhere = replace(teacher, runtime="torch")
    assert Predictions([elsewhere], 1, tmp_path / "kept").find(elsewhere, TEXTS["test"], 3) is None
    monkeypatch.setattr(predictions, name, other)
    assert Predictions([teacher], 1, tmp_path / "kept").find(teacher, TEXTS["test"], 3) is None


def test_the_scoring_code_is_the_runtimes_and_what_they_use(tmp_path):
    package = Path(predictions.__file__).parents[1]
    copy = shutil.copytree(package, tmp_path / "package", ignore=shutil.ignore_patterns("__pycache__"))
    digest = predictions._digest_of_code(copy)
    assert digest == predictions._digest_of_code(package)
    (copy / "report" / "page.py").write_text("")
    assert predictions._digest_of_code(copy) == digest
    for name in ("runtimes/base.py", "networks/checkpoints.py", "core/files.py", "benchmark/worker.py"):
        (copy / name).write_text("")
        changed = predictions._digest_of_code(copy)
        assert changed != digest, name
        digest = changed


def test_what_nothing_used_for_long_is_removed_and_so_are_the_oldest_of_many(teacher, tmp_path, monkeypatch):
    kept = Predictions([teacher], 1, tmp_path / "kept")
    for number in range(6):
        kept.keep(teacher, [f"text {number}"], LOGITS[:1])
    paths = [kept._path(teacher, [f"text {number}"]) for number in range(6)]
    for age, path in enumerate(paths):
        os.utime(path, times=(time.time() - age * 3600,) * 2)
    ancient = time.time() - (predictions.KEPT_DAYS + 1) * 86400
    os.utime(paths[0], times=(ancient, ancient))
    half_written = tmp_path / "kept" / ".left-behind.npz"
    half_written.touch()
    os.utime(half_written, times=(ancient, ancient))
    kept.prune()
    assert not half_written.exists() and [path.exists() for path in paths] == [False] + [True] * 5
    assert kept.find(teacher, ["text 5"], 3) is not None, "which marks it as used"
    monkeypatch.setattr(predictions, "KEPT_ENTRIES", 2)
    kept.prune()
    assert [path.exists() for path in paths] == [False, True, False, False, False, True]
