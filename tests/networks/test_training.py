"""The training loop: what it optimises, when it stops, when a saved state counts."""

from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import LABELS, few_rows
from settings import training_params as params

from fincompress.core.scratch import kept_folder
from fincompress.networks import training
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_for_labels
from fincompress.networks.training import train


@pytest.fixture
def parts(checkpoint):
    """(model, tokenizer, train set, val set) of 48 and 24 rows."""
    model, tokenizer = load_for_labels(str(checkpoint), LABELS, max_length=48)
    frame = few_rows(24)
    return (
        model,
        tokenizer,
        tokenise(frame.iloc[::3], LABELS, tokenizer),
        tokenise(frame.iloc[1::3], LABELS, tokenizer),
    )


@pytest.fixture(autouse=True)
def outside_any_project(tmp_path, monkeypatch):
    """Learning curves and states go to a folder of their own, outside any project."""
    monkeypatch.chdir(tmp_path)


def run(parts, tmp_path, **changes) -> dict:
    return train(*parts, params(**changes), seed=1, scratch=tmp_path / "scratch", curves=tmp_path / "curves")


def test_the_kept_weights_are_those_of_the_best_epoch(parts, tmp_path):
    summary = run(parts, tmp_path, epochs=4, patience=4)
    curve = pd.read_csv(tmp_path / "curves/val/macro_f1.tsv", sep="\t")
    assert list(curve["step"]) == [1, 2, 3, 4]
    assert summary["val_macro_f1"] == curve["macro_f1"].max()
    assert summary["best_epoch"] == curve["step"][curve["macro_f1"].idxmax()]


def test_training_stops_when_patience_ends(parts, tmp_path):
    summary = run(parts, tmp_path, epochs=30, patience=1, learning_rate=1e-9)
    assert summary["epochs"] == 2 and summary["best_epoch"] == 1


def test_balanced_classes_change_nothing_where_labels_are_even_and_help_a_rare_one_where_not(checkpoint, tmp_path):
    frame = few_rows(24)
    rare = frame[frame["label"] == LABELS[0]].iloc[:2]
    uneven = pd.concat([frame[frame["label"] != LABELS[0]], rare])

    def trained(rows: pd.DataFrame, name: str, **changes) -> torch.Tensor:
        """The mean probability of the rare label on the rows that have it."""
        model, tokenizer = load_for_labels(str(checkpoint), LABELS, max_length=48)
        torch.manual_seed(0)
        train_set, val_set = (tokenise(part, LABELS, tokenizer) for part in (rows, frame.iloc[1::3]))
        folders = {"scratch": tmp_path / name, "curves": tmp_path / f"{name}-curves"}
        train(
            model,
            tokenizer,
            train_set,
            val_set,
            params(epochs=3, patience=3, learning_rate=1e-3, **changes),
            seed=1,
            **folders,
        )
        inputs = tokenizer(rare["text"].tolist(), padding=True, truncation=True, return_tensors="pt")
        with torch.inference_mode():
            return model(**inputs).logits.softmax(dim=-1)[:, 0].mean()

    torch.testing.assert_close(
        trained(frame, "even"), trained(frame, "even-balanced", class_weights="balanced"), rtol=1e-5, atol=1e-6
    )
    assert trained(uneven, "balanced", class_weights="balanced") > trained(uneven, "plain")


@pytest.mark.parametrize(
    ("gpu", "native", "expected"),
    [(False, False, (False, False)), (True, False, (False, True)), (True, True, (True, False))],
)
def test_a_gpu_that_only_emulates_bf16_trains_in_fp16(monkeypatch, gpu, native, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or native)
    assert training.half_precision() == expected


def test_no_epochs_takes_the_checkpoint_as_it_is(parts, tmp_path):
    before = {name: tensor.clone() for name, tensor in parts[0].state_dict().items()}
    summary = run(parts, tmp_path, epochs=0)
    assert summary["epochs"] == 0 and 0 <= summary["val_macro_f1"] <= 1
    assert all(torch.equal(before[name], tensor) for name, tensor in parts[0].state_dict().items())
    assert (tmp_path / "curves").is_dir()


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_word_embeddings_stay_as_they_are_and_all_else_is_trained(parts, tmp_path, frozen):
    before = {name: tensor.clone() for name, tensor in parts[0].state_dict().items()}
    run(parts, tmp_path, epochs=1, freeze_word_embeddings=frozen)
    same = {name for name, tensor in parts[0].state_dict().items() if torch.equal(before[name], tensor)}
    assert same == ({"bert.embeddings.word_embeddings.weight"} if frozen else set())


def test_biases_and_layer_norms_do_not_decay(parts, tmp_path):
    trainer = training._ObjectiveTrainer(
        model=parts[0], args=training._arguments(params(), 1, tmp_path), train_dataset=parts[2], eval_dataset=parts[3]
    )
    decayed, free = trainer.create_optimizer().param_groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    names = {id(tensor): name for name, tensor in parts[0].named_parameters()}
    assert all("LayerNorm" in names[id(t)] or names[id(t)].endswith("bias") for t in free["params"])
    assert not any("LayerNorm" in names[id(t)] or names[id(t)].endswith("bias") for t in decayed["params"])


def test_dropout_reaches_every_layer_and_null_keeps_the_checkpoints(parts, tmp_path):
    model, tokenizer = parts[:2]
    batch = tokenizer(["Profit rose to EUR 13.1 mn from EUR 8.7 mn."] * 2, return_tensors="pt")
    differs = {}
    for dropout in (None, 0.0):
        run(parts, tmp_path, epochs=0, dropout=dropout)
        first, second = model.train()(**batch).logits
        differs[dropout] = not torch.equal(first, second)
    assert differs == {None: True, 0.0: False}


def test_an_objective_replaces_the_training_loss_only(parts, tmp_path):
    calls = []

    def objective(model, batch):
        calls.append(model.training)
        outputs = model(**batch)
        return outputs.loss * 0 + 7.0, outputs

    train(
        *parts,
        params(epochs=1),
        seed=1,
        scratch=tmp_path / "scratch",
        curves=tmp_path / "curves",
        objective=objective,
    )
    assert calls and all(calls)
    assert pd.read_csv(tmp_path / "curves/train/loss.tsv", sep="\t")["loss"].iloc[0] == pytest.approx(7.0)
    assert pd.read_csv(tmp_path / "curves/val/loss.tsv", sep="\t")["loss"].iloc[0] < 3


def test_a_saved_state_belongs_to_its_params_and_inputs(tmp_path):
    data = tmp_path / "data"
    data.mkdir()
    (data / "train.csv").write_text("a")
    first = kept_folder("kd", {"alpha": 0.5}, [data])
    assert kept_folder("kd", {"alpha": 0.5}, [data]) == first and first.is_dir()
    other = kept_folder("kd", {"alpha": 0.6}, [data])
    assert other != first and not first.exists()
    (data / "train.csv").write_text("b")
    assert kept_folder("kd", {"alpha": 0.6}, [data]) != other


def test_a_half_written_checkpoint_is_passed_over(tmp_path):
    for step, state in ((4, "{}"), (8, '{"epo')):
        (tmp_path / f"checkpoint-{step}").mkdir()
        (tmp_path / f"checkpoint-{step}" / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-12").mkdir()
    assert Path(training._last_complete_checkpoint(tmp_path)).name == "checkpoint-4"
    assert training._last_complete_checkpoint(tmp_path / "none") is None
