"""kd: distil the teacher's soft labels into a smaller student (Hinton et al. 2015)."""

from dataclasses import dataclass
from pathlib import Path

from transformers import set_seed

from fincompress.compress.soft_labels import add_teacher_logits, soft_label_objective
from fincompress.compress.student import build_student
from fincompress.core import stage
from fincompress.core.files import write_json
from fincompress.core.params import load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import KdParams, StudentParams
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
    kd: KdParams


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    plots: Path = Path("plots"),
    metrics: Path = Path("metrics/training"),
    seed: int | None = None,
) -> None:
    """Write MODELS/kd, distilled from MODELS/teacher, its learning curves to PLOTS, and METRICS/kd.json."""
    params, teacher = load_params(Needs, seed=seed), models / "teacher"
    set_seed(params.seed)
    labels = read_labels(data)
    student, tokenizer, origin = build_student(str(teacher), params.student)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    train_set = add_unlabelled(train_set, read_transfer(params.kd.transfer, data), tokenizer)
    train_set = add_teacher_logits(train_set, load_model(str(teacher)), tokenizer)
    inputs = [data, teacher, Path(params.kd.transfer)]
    with scratch_folder("kd", {**vars(params), **origin}, inputs) as scratch:
        summary = train(
            student,
            tokenizer,
            train_set,
            val_set,
            params.kd,
            seed=params.seed,
            scratch=scratch.folder,
            curves=plots / "training" / "kd",
            objective=soft_label_objective(params.kd.temperature, params.kd.alpha),
        )
        save(student, tokenizer, models / "kd", {"origin": origin, **summary})
        write_json(metrics / "kd.json", {**summary, **scratch.cost()})
    print(f"kd: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
