"""kd: distil the teacher's soft labels into a smaller student (Hinton et al. 2015)."""

from pathlib import Path

from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import load_model, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.distillation import add_teacher_logits, build_student, soft_label_objective
from fincompress.files import remove_folder
from fincompress.outside import add_transfer
from fincompress.params import load_params
from fincompress.training import scratch_folder, train


def main(
    data: Path = Path("data"),
    teacher: Path = Path("models/teacher"),
    out: Path = Path("models/kd"),
    curves: Path = Path("plots/training/kd"),
    seed: int | None = None,
) -> None:
    """Write the distilled student to OUT and its learning curves to CURVES."""
    params = load_params("seed", "student", "kd", seed=seed)
    set_seed(params.seed)
    labels = read_labels(data)
    student, tokenizer, origin = build_student(str(teacher), params.student)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    train_set = add_transfer(train_set, params.kd.transfer, data, tokenizer)
    train_set = add_teacher_logits(train_set, load_model(str(teacher)), tokenizer)
    scratch = scratch_folder("kd", {**vars(params), **origin}, [data, teacher, *map(Path, params.kd.transfer)])
    summary = train(
        student,
        tokenizer,
        train_set,
        val_set,
        params.kd,
        seed=params.seed,
        scratch=scratch,
        curves=curves,
        objective=soft_label_objective(params.kd.temperature, params.kd.alpha),
    )
    save(student, tokenizer, out, {"origin": origin, **summary})
    remove_folder(scratch)
    print(f"kd: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
