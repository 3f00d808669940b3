"""ikd: distil soft labels, hidden states and attention into a smaller student (TinyBERT, Jiao et al. 2020)."""

import math
from pathlib import Path

from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import load_model, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.distillation import build_student
from fincompress.files import remove_folder
from fincompress.intermediate import (
    add_projections,
    drop_projections,
    intermediate_objective,
    layer_map,
    teacher_targets,
)
from fincompress.outside import add_transfer
from fincompress.params import load_params
from fincompress.training import scratch_folder, train


def main(
    data: Path = Path("data"),
    teacher: Path = Path("models/teacher"),
    out: Path = Path("models/ikd"),
    curves: Path = Path("plots/training/ikd"),
    seed: int | None = None,
) -> None:
    """Write the distilled student to OUT and its learning curves to CURVES."""
    params = load_params("seed", "student", "ikd", "kd.transfer", seed=seed)
    set_seed(params.seed)
    labels = read_labels(data)
    student, tokenizer, origin = build_student(str(teacher), params.student)
    original = load_model(str(teacher))
    layers = layer_map(params.ikd.layer_map, params.student.layers, original.config.num_hidden_layers)
    for model in (student, original):
        model.set_attn_implementation("eager")  # the only one that returns attention
    add_projections(student, original.config.hidden_size, len(layers))
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    train_set = add_transfer(train_set, params.transfer, data, tokenizer)
    scratch = scratch_folder("ikd", {**vars(params), **origin}, [data, teacher, *map(Path, params.transfer)])
    groups = math.gcd(params.student.attention_heads, original.config.num_attention_heads)
    train_set, targets = teacher_targets(
        train_set, original, tokenizer, list(layers.values()), groups, scratch / "targets"
    )
    summary = train(
        student,
        tokenizer,
        train_set,
        val_set,
        params.ikd,
        seed=params.seed,
        scratch=scratch,
        curves=curves,
        objective=intermediate_objective(params.ikd, list(layers), targets),
    )
    drop_projections(student)
    save(student, tokenizer, out, {"origin": origin, **summary})
    remove_folder(scratch)
    print(f"ikd: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
