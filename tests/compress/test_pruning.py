"""The least important go, as many as asked and round by round, and an interrupted run ends like a whole one."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from random_classifiers import LAYERS, classifier
from settings import training_params

from fincompress.compress import pruning
from fincompress.compress.pruning import least_important, predict, prune, removal_schedule, scoring_rows
from fincompress.core.errors import InputError
from fincompress.core.files import read_json
from fincompress.core.sections import PruneParams
from fincompress.networks.checkpoints import load_model, save
from fincompress.networks.structure import Structure, structure_of


def params(**changes) -> PruneParams:
    values = {
        "source": "teacher",
        "heads_fraction": 0.5,
        "heads_per_round": 0.25,
        "ffn_fraction": 0.0,
        "importance": "entropy",
        "importance_batches": None,
        **dict(training_params(epochs=1, batch_size=8, weight_decay=0.01, dropout=0.1)),
    }
    return PruneParams(**{**values, **changes})


@pytest.fixture(autouse=True)
def outside_any_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_heads_are_scored_on_as_many_mini_batches_as_asked(rows):
    few = params(importance_batches=2, batch_size=4)
    assert len(scoring_rows(rows, few, seed=0)) == 8 and scoring_rows(rows, params(), seed=0) is rows
    assert scoring_rows(rows, few, seed=0)["input_ids"] == scoring_rows(rows, few, seed=0)["input_ids"]
    assert scoring_rows(rows, few, seed=0)["input_ids"] != scoring_rows(rows, few, seed=1)["input_ids"]
    assert len(scoring_rows(rows, params(importance_batches=99), seed=0)) == len(rows)


scores = st.floats(0, 1, allow_subnormal=False)  # training turns them off for the whole process


@given(
    importance=arrays(np.float64, (4, 5), elements=st.one_of(scores, st.just(0.5))),
    gone=arrays(np.bool_, (4, 5)),
    count=st.integers(0, 16),
)
@settings(max_examples=200)
def test_the_worst_heads_go_but_never_the_last_of_a_layer(importance, gone, count):
    gone[:, 0] = False
    importance = np.where(gone, np.nan, importance)
    removable = int((~gone).sum()) - 4
    if count > removable:
        with pytest.raises(ValueError, match="cannot be removed"):
            least_important(importance, count)
        return
    chosen = least_important(importance, count)
    assert len(set(chosen)) == count and not any(gone[place] for place in chosen)
    left = ~gone
    for place in chosen:
        left[place] = False
    assert left.sum(axis=1).min() >= 1
    for layer in range(4):  # a head that stays, and is not its layer's last, matters no less than any that goes
        if left[layer].sum() > 1 and chosen:
            assert importance[layer][left[layer]].min() >= max(importance[place] for place in chosen)


@given(fraction=st.floats(0.01, 0.99), per_round=st.floats(0.02, 1), layers=st.integers(1, 6), heads=st.integers(1, 12))
@settings(max_examples=200)
def test_a_schedule_removes_exactly_the_fraction_or_names_the_key(fraction, per_round, layers, heads):
    structure = Structure([list(range(heads))] * layers, [8] * layers)
    total = round(fraction * layers * heads)
    chosen = params(heads_fraction=fraction, heads_per_round=per_round)
    if not 0 < total <= layers * (heads - 1):
        with pytest.raises(InputError, match=r"prune50\.heads_fraction"):
            removal_schedule(structure, chosen, "prune50")
        return
    schedule = removal_schedule(structure, chosen, "prune50")
    assert schedule[-1] == total and schedule == sorted(set(schedule))
    assert max(np.diff([0, *schedule])) <= per_round * layers * heads + 1
    assert len(schedule) <= math.ceil(fraction / per_round)


def test_minilm_loses_a_tenth_a_round():
    minilm = Structure([list(range(12))] * 6, [1536] * 6)
    chosen = {fraction: params(heads_fraction=fraction, heads_per_round=0.1) for fraction in (0.3, 0.5)}
    schedule = {fraction: removal_schedule(minilm, values, "x") for fraction, values in chosen.items()}
    assert schedule == {0.3: [7, 14, 22], 0.5: [7, 14, 22, 29, 36]}
    behind = {"rounds": [{"heads_removed": 22, "neurons_removed": 0}]}
    assert removal_schedule(minilm, chosen[0.5], "x", behind) == [29, 36]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads_fraction": 0.95}, r"prune30\.heads_fraction: 0\.95 would remove 11 of 12 heads.*at most 0\.75"),
        ({"heads_fraction": 0.01}, r"prune30\.heads_fraction: 0\.01 removes none of 12 heads.*at least 0\.084"),
        ({"ffn_fraction": 0.999}, r"prune30\.ffn_fraction: 0\.999 would remove all 64 neurons"),
    ],
)
def test_an_impossible_fraction_is_one_clear_error(changes, message):
    with pytest.raises(InputError, match=message):
        removal_schedule(structure_of(classifier()), params(**changes), "prune30")


def run(model, tokenizer, rows, scratch, **changes):
    chosen = params(**changes)
    schedule = removal_schedule(structure_of(model), chosen, "prune50")
    return prune(model, tokenizer, rows, rows, chosen, schedule=schedule, seed=1, scratch=scratch)


@pytest.mark.parametrize("importance", ["entropy", "attention", "magnitude", "gradient", "fisher", "random"])
def test_pruning_removes_the_exact_count_and_records_every_round(importance, tokenizer, rows, tmp_path):
    model, record = run(classifier(), tokenizer, rows, tmp_path, importance=importance, ffn_fraction=0.25)
    structure = structure_of(model)
    assert sum(map(len, structure.kept_heads)) == 6 and min(map(len, structure.kept_heads)) >= 1
    assert structure.ffn_widths == [48] * LAYERS
    rounds, scores = pd.DataFrame(record["rounds"]), pd.DataFrame(record["importance"])
    assert rounds["heads_removed"].tolist() == [0, 3, 6] and rounds["neurons_removed"].tolist() == [0, 24, 48]
    assert rounds["head_sparsity"].tolist() == [0, 0.25, 0.5]
    assert rounds["parameters"].iloc[-1] == model.num_parameters() < rounds["parameters"].iloc[0]
    assert rounds["val_macro_f1_recovered"].iloc[-1] == pytest.approx(
        pruning.macro_f1(np.array(rows["labels"]), predict(model, tokenizer, rows)), abs=1e-5
    )
    assert scores.groupby("round").size().tolist() == [12, 9]
    assert scores.groupby("round")["kept"].sum().tolist() == [9, 6]
    last = scores[(scores["round"] == 2) & (scores["kept"] == 1)]
    assert [(r.layer, r.head) for r in last.itertuples()] == [
        (layer, head) for layer, kept in enumerate(structure.kept_heads) for head in kept
    ]


def test_heads_and_neurons_are_scored_on_training_texts(tokenizer, rows, tmp_path, monkeypatch):
    scored = []
    for name in ("head_importance", "neuron_importance"):
        original = getattr(pruning, name)

        def keep(model, tokenizer, dataset, *further, original=original):
            scored.append(dataset)
            return original(model, tokenizer, dataset, *further)

        monkeypatch.setattr(pruning, name, keep)
    train_set, val_set = rows.select(range(8, 24)), rows.select(range(8))
    chosen = params(ffn_fraction=0.25)
    schedule = removal_schedule(structure_of(classifier()), chosen, "prune50")
    prune(classifier(), tokenizer, train_set, val_set, chosen, schedule=schedule, seed=1, scratch=tmp_path)
    assert len(scored) == 2 * len(schedule) and all(dataset is train_set for dataset in scored)


def test_pruning_goes_on_from_a_pruned_checkpoint_as_though_it_had_been_one_run(tokenizer, rows, tmp_path):
    whole, whole_record = run(classifier(), tokenizer, rows, tmp_path / "whole", ffn_fraction=0.5)
    half, record = run(classifier(), tokenizer, rows, tmp_path / "half", heads_fraction=0.25, ffn_fraction=0.25)
    save(half, tokenizer, tmp_path / "source", {"pruning": record})
    half, record = load_model(str(tmp_path / "source")), read_json(tmp_path / "source/training.json")["pruning"]
    chosen = params(ffn_fraction=0.5)
    schedule = removal_schedule(Structure(**record["start"]), chosen, "prune50", record)
    assert schedule == [6]
    further = {"schedule": schedule, "seed": 1, "scratch": tmp_path / "further", "record": record}
    model, record = prune(half, tokenizer, rows, rows, chosen, **further)
    assert record == whole_record
    for (name, ours), theirs in zip(model.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
    for changes, message in (
        ({"heads_fraction": 0.4}, r"prune50\.heads_fraction: 0\.4 is 5 of 12 heads, but `prune50\.source` has lost 6"),
        ({"heads_fraction": 0.6}, r"prune50\.ffn_fraction: 0\.0 is less than `prune50\.source` has lost already"),
    ):
        with pytest.raises(InputError, match=message):
            removal_schedule(Structure(**record["start"]), params(**changes), "prune50", record)


class Killed(BaseException):
    """Stands for a kill: nothing but the test catches it."""


@pytest.mark.parametrize("moment", ["save", "train"])
def test_pruning_that_is_killed_goes_on_from_its_last_finished_round(moment, tokenizer, rows, tmp_path, monkeypatch):
    whole, whole_record = run(classifier(), tokenizer, rows, tmp_path / "whole", ffn_fraction=0.25)
    calls = {"save": 0, "train": 0}
    originals = {name: getattr(pruning, name) for name in calls}

    def dying(name, limit):
        def call(*arguments, **options):
            calls[name] += 1
            if calls[name] == limit:
                raise Killed
            return originals[name](*arguments, **options)

        return call

    monkeypatch.setattr(pruning, moment, dying(moment, limit=2))
    with pytest.raises(Killed):
        run(classifier(), tokenizer, rows, tmp_path / "killed", ffn_fraction=0.25)
    assert [path.name for path in (tmp_path / "killed").glob("round-*")] == ["round-1"]
    monkeypatch.undo()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(pruning, "train", dying("train", limit=0))
    calls["train"] = 0
    model, record = run(classifier(), tokenizer, rows, tmp_path / "killed", ffn_fraction=0.25)
    assert calls["train"] == 1, "the finished round ran again"
    assert record == whole_record and structure_of(model) == structure_of(whole)
    for (name, ours), theirs in zip(model.state_dict().items(), whole.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs), name
