"""The only training loop: transformers' Trainer with early stopping, learning curves and exact resume."""

import shutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from dvclive import Live
from torch.nn import functional
from transformers import (
    EarlyStoppingCallback,
    EvalPrediction,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from fincompress.core.files import atomic_folder, read_json, remove_folder
from fincompress.core.processes import is_main, processes
from fincompress.core.sections import TrainingParams
from fincompress.networks.batches import CLASS_WEIGHTS, NO_LABEL
from fincompress.networks.scores import scores

CURVES = {
    "loss": "train/loss",
    "eval_loss": "val/loss",
    "eval_macro_f1": "val/macro_f1",
    "eval_accuracy": "val/accuracy",
}

Objective = Callable[[PreTrainedModel, dict[str, torch.Tensor]], tuple[torch.Tensor, object]]
"""Maps (model, batch) to (loss, the model's outputs). The batch holds `labels`, any extra columns and, where the
params weigh classes, `CLASS_WEIGHTS` ([labels]), for `true_label_loss`."""


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_set: Dataset,
    val_set: Dataset,
    params: TrainingParams,
    *,
    seed: int,
    scratch: Path,
    curves: Path,
    objective: Objective | None = None,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict:
    """Fine-tune `model` in place to its best epoch by validation macro F1.

    AdamW without weight decay on biases and LayerNorm, linear warm-up then linear decay, length-grouped batches
    with dynamic padding, bf16 (or fp16) on a GPU. Word embeddings can be left as they are: they are half of a small
    network's weights, which makes a step cheaper. After every epoch the whole state goes to `scratch`. A run that finds
    a state there continues from it and ends with the same weights as an uninterrupted one. Several processes (see
    `core.processes`) share every batch.

    Args:
        objective: the training loss; cross-entropy if None. The validation loss is always cross-entropy, unweighted.
        curves: folder for the learning curves (TSV files, one point per epoch).
        callbacks: further callbacks for the Trainer.

    Returns:
        `val_macro_f1` and `best_epoch` of the weights kept, and the number of `epochs` run.
    """
    torch.set_flush_denormal(True)
    model.get_input_embeddings().weight.requires_grad_(not params.freeze_word_embeddings)
    if params.dropout is not None:
        set_dropout(model, params.dropout)
    trainer = _ObjectiveTrainer(
        model=model,
        args=_arguments(params, seed, scratch),
        train_dataset=train_set,
        eval_dataset=val_set,
        data_collator=lambda rows: _pad(rows, tokenizer),
        compute_metrics=_validation_scores,
        callbacks=[EarlyStoppingCallback(params.patience), _Curves(scratch / "curves", params.epochs), *callbacks],
    )
    trainer.objective = objective
    if params.class_weights == "balanced":
        trainer.class_weights = balanced_weights(train_set["labels"], len(model.config.id2label or {}))
        trainer.objective = objective or _true_label_objective
    trainer.remove_callback(PrinterCallback)  # `_Curves` prints one line per epoch
    if params.epochs == 0:
        summary = {"val_macro_f1": trainer.evaluate()["eval_macro_f1"], "best_epoch": 0, "epochs": 0}
        (scratch / "curves").mkdir(parents=True, exist_ok=True)
    else:
        set_seed(seed)
        trainer.train(resume_from_checkpoint=_last_complete_checkpoint(scratch))
        best = max(
            (entry for entry in trainer.state.log_history if "eval_macro_f1" in entry),
            key=lambda entry: (entry["eval_macro_f1"], -entry["epoch"]),
        )
        summary = {
            "val_macro_f1": best["eval_macro_f1"],
            "best_epoch": round(best["epoch"]),
            "epochs": round(trainer.state.epoch),
        }
    _publish_curves(scratch / "curves", curves)
    model.eval()
    return summary


def balanced_weights(labels: Sequence[int], count: int) -> torch.Tensor:
    """A weight for each class, [count], with which every class counts alike, and a row 1 on average.

    That is rows / (classes · rows of the class), over the classes that occur, as in King & Zeng (2001) and
    scikit-learn; rows without a label are left out.
    """
    rows = np.bincount([label for label in labels if label != NO_LABEL], minlength=count)
    weights = rows.sum() / (np.count_nonzero(rows) * np.maximum(rows, 1))
    return torch.tensor(np.where(rows > 0, weights, 1.0), dtype=torch.float32)


def true_label_loss(logits: torch.Tensor, labels: torch.Tensor, weights: torch.Tensor | None = None) -> torch.Tensor:
    """Cross-entropy with the true labels, a mean over all rows of the batch, also those without a label.

    Args:
        logits: [batch, labels].
        labels: [batch] of ids, or `NO_LABEL`.
        weights: [labels] of each class, if they are not alike. They do not change what is divided by, so that a batch
            of rare labels weighs more than one of common ones.
    """
    loss = functional.cross_entropy(logits, labels, weights, ignore_index=NO_LABEL, reduction="sum")
    return loss / len(labels)


def _true_label_objective(model: PreTrainedModel, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, object]:
    outputs = model(**{name: tensor for name, tensor in batch.items() if name not in ("labels", CLASS_WEIGHTS)})
    return true_label_loss(outputs.logits, batch["labels"], batch[CLASS_WEIGHTS]), outputs


def _validation_scores(result: EvalPrediction) -> dict[str, float]:
    """Scores of a pass over the validation set: logits [rows, labels], label ids [rows]."""
    return scores(np.asarray(result.label_ids), np.asarray(result.predictions).argmax(axis=-1))


def set_dropout(model: PreTrainedModel, probability: float) -> None:
    """Set every dropout of `model`, including that of attention probabilities, to this probability.

    Some networks of transformers hold that of attention as a number, and have none where theirs is 0.
    """
    for module in list(model.modules()):
        if isinstance(module, torch.nn.Dropout):
            module.p = probability
        elif isinstance(getattr(module, "attention_dropout", None), int | float):
            module.attention_dropout = probability  # type: ignore[assignment]  # a number, which Module's stub denies
        for name, child in module.named_children():
            if "drop" in name and isinstance(child, torch.nn.Identity):
                setattr(module, name, torch.nn.Dropout(probability))


def half_precision() -> tuple[bool, bool]:
    """Whether training uses bf16, on a GPU that computes in it, or fp16, on another; neither without a GPU.

    Of a T4, torch says by default that it supports bf16, which it only emulates.
    """
    gpu = torch.cuda.is_available()
    bf16 = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return bf16, gpu and not bf16


def _arguments(params: TrainingParams, seed: int, scratch: Path) -> TrainingArguments:
    bf16, fp16 = half_precision()
    return TrainingArguments(
        output_dir=str(scratch),
        num_train_epochs=params.epochs,
        per_device_train_batch_size=params.batch_size // processes(),
        per_device_eval_batch_size=64,
        learning_rate=params.learning_rate,
        weight_decay=params.weight_decay,
        warmup_steps=params.warmup_ratio,
        lr_scheduler_type="linear",
        train_sampling_strategy="group_by_length",
        remove_unused_columns=False,
        eval_strategy="epoch",
        save_strategy="epoch",
        logging_strategy="epoch",
        save_total_limit=2,
        load_best_model_at_end=True,
        metric_for_best_model="macro_f1",
        greater_is_better=True,
        restore_callback_states_from_checkpoint=True,
        seed=seed,
        use_cpu=processes() > 1 and not torch.cuda.is_available(),  # otherwise several processes want a GPU each
        ddp_find_unused_parameters=False,  # none are, although the projections of `ikd` are used outside the model
        bf16=bf16,
        fp16=fp16,
        dataloader_pin_memory=torch.cuda.is_available(),
        disable_tqdm=not sys.stderr.isatty(),
        report_to="none",
    )


def _pad(rows: list[dict], tokenizer: PreTrainedTokenizerBase) -> dict[str, torch.Tensor]:
    """Pad a batch to its longest row; stack columns that are not the tokenizer's as they are."""
    return dict(tokenizer.pad([{k: v for k, v in row.items() if k != "length"} for row in rows], return_tensors="pt"))


class _ObjectiveTrainer(Trainer):
    """Trainer whose training loss is an `Objective`; evaluation keeps the model's own cross-entropy."""

    objective: Objective | None = None
    class_weights: torch.Tensor | None = None
    model_accepts_loss_kwargs = False  # the loss is a mean over the batch, whatever the model would accept

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):  # type: ignore[override]  # takes them by name
        if self.objective is None or not model.training:
            return super().compute_loss(model, inputs, return_outputs=return_outputs)
        if self.class_weights is not None:
            inputs = {**inputs, CLASS_WEIGHTS: self.class_weights.to(inputs["labels"].device)}
        loss, outputs = self.objective(model, inputs)
        return (loss, outputs) if return_outputs else loss


class _Curves(TrainerCallback):
    """Log learning curves with DVCLive, one step per epoch, and print one line per epoch."""

    def __init__(self, folder: Path, epochs: int):
        self.folder = folder
        self.epochs = epochs
        self.live: Live | None = None

    def on_train_begin(self, args, state, control, **kwargs):
        if is_main():
            self.live = Live(str(self.folder), save_dvc_exp=False, dvcyaml=None)
            for logs in state.log_history:  # of epochs before a resume
                self._log(logs)

    def on_log(self, args, state, control, logs=None, **kwargs):
        if self.live:
            self._log({**logs, "epoch": state.epoch})
            if "eval_macro_f1" in logs:
                print(
                    f"epoch {round(state.epoch)}/{self.epochs}: val macro F1 {logs['eval_macro_f1']:.4f}, "
                    f"val loss {logs['eval_loss']:.4f}",
                    flush=True,
                )

    def _log(self, logs: dict) -> None:
        assert self.live is not None, "made when training begins"
        self.live.step = round(logs["epoch"])
        for key, name in CURVES.items():
            if key in logs:
                self.live.log_metric(name, float(logs[key]))


def _publish_curves(logged: Path, curves: Path) -> None:
    """Move DVCLive's curves to where DVC plots them."""
    with atomic_folder(curves) as folder:
        if (logged / "plots" / "metrics").is_dir():
            shutil.copytree(logged / "plots" / "metrics", folder, dirs_exist_ok=True)


def _last_complete_checkpoint(scratch: Path) -> str | None:
    """The newest checkpoint whose state file, which is written last, is complete."""
    folders = sorted(scratch.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]), reverse=True)
    for folder in folders:
        try:
            read_json(folder / "trainer_state.json")
        except (OSError, ValueError):
            remove_folder(folder)
        else:
            return str(folder)
    return None
