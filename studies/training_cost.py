"""What distillation costs: the `kd` stage against a straightforward script, for the same epochs on the same data.

The straightforward script does what most tutorials do: it pads every text to a fixed length, runs the teacher on every
batch of every epoch, and takes batches in random order. Both train the same student from the same start with the same
loss, optimiser and schedule, and validate after every epoch.

    python -m studies.training_cost --epochs 2 --write docs/results/training_cost.md

It needs the prepared data and the teacher (`dvc repro teacher`).
"""

import argparse
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pandas as pd
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import get_linear_schedule_with_warmup, set_seed

from fincompress.benchmark.machine import environment
from fincompress.compress.soft_labels import add_teacher_logits, hinton_loss, soft_label_objective
from fincompress.compress.student import build_student
from fincompress.core.errors import InputError
from fincompress.core.params import load_params
from fincompress.core.sections import KdParams, StudentParams
from fincompress.data.prepared import read_labels, read_split
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.scores import macro_f1
from fincompress.networks.training import set_dropout, train
from studies.output import add_output_options, publish, with_write


@dataclass(frozen=True)
class Needs:
    """What this study reads from params.yaml."""

    seed: int
    student: StudentParams
    kd: KdParams


def straightforward(
    params: Needs, data: Path, teacher_folder: Path, epochs: int, padded_length: int
) -> tuple[float, float]:
    """Seconds and best validation macro F1 of the script that pads and runs the teacher in every step."""
    start = time.perf_counter()
    set_seed(params.seed)
    labels = read_labels(data)
    student, tokenizer, _ = build_student(str(teacher_folder), params.student)
    teacher = load_model(str(teacher_folder))
    if params.kd.dropout is not None:
        set_dropout(student, params.kd.dropout)

    def loader(name: str, shuffle: bool) -> DataLoader:
        rows = read_split(data, name)
        batch = tokenizer(
            rows["text"].tolist(), padding="max_length", truncation=True, max_length=padded_length, return_tensors="pt"
        )
        batch["labels"] = torch.tensor([labels.index(label) for label in rows["label"]])
        items = [{key: batch[key][row] for key in batch} for row in range(len(rows))]
        return DataLoader(cast(Any, items), batch_size=params.kd.batch_size, shuffle=shuffle)

    train_loader, val_loader = loader("train", shuffle=True), loader("val", shuffle=False)
    optimizer = torch.optim.AdamW(student.parameters(), params.kd.learning_rate, weight_decay=params.kd.weight_decay)
    steps = epochs * len(train_loader)
    schedule = get_linear_schedule_with_warmup(optimizer, round(params.kd.warmup_ratio * steps), steps)
    best = 0.0
    for epoch in range(1, epochs + 1):
        student.train()
        for batch in tqdm(train_loader, desc=f"straightforward, epoch {epoch}", disable=None):
            targets = batch.pop("labels")
            with torch.no_grad():
                teacher_logits = teacher(**batch).logits
            loss = hinton_loss(student(**batch).logits, teacher_logits, targets, params.kd.temperature, params.kd.alpha)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
        student.eval()
        targets, predicted = [], []
        with torch.inference_mode():
            for batch in val_loader:
                targets += batch.pop("labels").tolist()
                predicted += student(**batch).logits.argmax(dim=-1).tolist()
        best = max(best, macro_f1(torch.tensor(targets).numpy(), torch.tensor(predicted).numpy()))
    return time.perf_counter() - start, best


def ours(params: Needs, data: Path, teacher_folder: Path, epochs: int) -> tuple[float, float]:
    """Seconds and best validation macro F1 of the way the `kd` stage does it."""
    start = time.perf_counter()
    set_seed(params.seed)
    labels = read_labels(data)
    student, tokenizer, _ = build_student(str(teacher_folder), params.student)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    train_set = add_teacher_logits(train_set, load_model(str(teacher_folder)), tokenizer)
    with tempfile.TemporaryDirectory() as temporary:
        summary = train(
            student,
            tokenizer,
            train_set,
            val_set,
            params.kd.model_copy(update={"epochs": epochs, "patience": epochs}),
            seed=params.seed,
            scratch=Path(temporary) / "scratch",
            curves=Path(temporary) / "curves",
            objective=soft_label_objective(params.kd.temperature, params.kd.alpha),
        )
    return time.perf_counter() - start, summary["val_macro_f1"]


def page(
    rows: list[tuple[str, float, float]], epochs: int, lengths: pd.Series, padded_length: int, write: Path | None
) -> str:
    """The result as a Markdown page.

    Args:
        write: the file that the page is for, if any.
    """
    command = f"python -m studies.training_cost --epochs {epochs} --padded-length {padded_length}"
    command = with_write(command, write)
    machine = environment(torch.get_num_threads())
    slow, fast = rows[0][1], rows[1][1]
    return "\n".join(
        [
            "# What distillation costs",
            "",
            "The `kd` stage against a straightforward script that pads every text to "
            f"{padded_length} word pieces, runs the teacher in every step and does not group texts by length: the same "
            "student, start, loss, optimiser and schedule, validated after every epoch.",
            "",
            f"{epochs} epoch{'s' * (epochs != 1)} on {len(lengths)} training texts of {lengths.mean():.0f} word pieces "
            f"on average; {machine['cpu']}, {machine['logical_cores']} cores, torch {machine['libraries']['torch']}.",
            "",
            "| | seconds | validation macro F1 |",
            "|---|--:|--:|",
            # a quick run gets decimals, so that half a second is not "0"
            *(f"| {name} | {seconds:.{0 if seconds >= 10 else 2}f} | {f1:.3f} |" for name, seconds, f1 in rows),
            "",
            f"**{slow / fast:.1f} times as fast.** Both times begin before the models are loaded; ours has the "
            "teacher's one pass over the texts, and a resume state saved after every epoch.",
            "",
            f"Made by `{command}`.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the kd stage against a straightforward script.")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--padded-length", type=int, default=128, help="word pieces the script pads to")
    parser.add_argument("--data", type=Path, default=Path("data"))
    parser.add_argument("--teacher", type=Path, default=Path("models/teacher"))
    add_output_options(parser)
    options = parser.parse_args()
    try:
        params = load_params(Needs)
        if options.dry_run:
            print(f"would train {options.epochs} epochs twice, for {options.write or 'standard output'}")
            return
        tokenizer = load_tokenizer(str(options.teacher))
        train_set = tokenise(read_split(options.data, "train"), read_labels(options.data), tokenizer)
        inputs = params, options.data, options.teacher, options.epochs
        rows = [
            ("straightforward script", *straightforward(*inputs, options.padded_length)),
            ("`kd` stage", *ours(*inputs)),
        ]
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    content = page(rows, options.epochs, pd.Series(train_set["length"]), options.padded_length, options.write)
    publish(content, options.write)


if __name__ == "__main__":
    main()
