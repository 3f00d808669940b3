"""ikd: distil soft labels, hidden states and attention into a smaller student (after TinyBERT, Jiao et al. 2020)."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transformers import set_seed

from fincompress.compress.hidden_layers import (
    Compared,
    add_projections,
    drop_projections,
    intermediate_objective,
    layer_map,
    teacher_targets,
)
from fincompress.compress.student import build_student
from fincompress.core import stage
from fincompress.core.files import write_json
from fincompress.core.params import Key, load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import IkdParams, StudentParams
from fincompress.data.further import read_transfer
from fincompress.data.prepared import read_labels, read_split
from fincompress.networks.batches import add_unlabelled, tokenise
from fincompress.networks.checkpoints import load_model, save
from fincompress.networks.training import train


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    student: StudentParams
    ikd: IkdParams
    transfer: Annotated[str, Key("kd.transfer")]


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    plots: Path = Path("plots"),
    metrics: Path = Path("metrics/training"),
    seed: int | None = None,
) -> None:
    """Write MODELS/ikd, distilled from MODELS/teacher, its learning curves to PLOTS, and METRICS/ikd.json."""
    params, teacher = load_params(Needs, seed=seed), models / "teacher"
    set_seed(params.seed)
    labels = read_labels(data)
    student, tokenizer, origin = build_student(str(teacher), params.student)
    original = load_model(str(teacher))
    layers = layer_map(params.ikd.layer_map, params.student.layers, original.config.num_hidden_layers)
    groups = math.gcd(params.student.attention_heads, original.config.num_attention_heads)
    theirs, ours = (
        Compared(side, groups, params.ikd.attention, params.ikd.lambda_embedding > 0)
        for side in (list(layers.values()), list(layers))
    )
    add_projections(student, original.config.hidden_size, len(ours.states))
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    train_set = add_unlabelled(train_set, read_transfer(params.transfer, data), tokenizer)
    inputs = [data, teacher, Path(params.transfer)]
    with scratch_folder("ikd", {**vars(params), **origin}, inputs) as scratch:
        train_set, targets = teacher_targets(train_set, original, tokenizer, theirs, scratch.folder / "targets")
        summary = train(
            student,
            tokenizer,
            train_set,
            val_set,
            params.ikd,
            seed=params.seed,
            scratch=scratch.folder,
            curves=plots / "training" / "ikd",
            objective=intermediate_objective(params.ikd, ours, targets),
        )
        drop_projections(student)
        save(student, tokenizer, models / "ikd", {"origin": origin, **summary})
        write_json(metrics / "ikd.json", {**summary, **scratch.cost()})
    print(f"ikd: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
