"""qat: fine-tune a network with int8 fake quantisation towards the teacher, and convert it to int8 for OpenVINO."""

from dataclasses import dataclass
from pathlib import Path

from transformers import set_seed

from fincompress.compress.qat import convert, fake_quantize
from fincompress.compress.soft_labels import add_teacher_logits, soft_label_objective
from fincompress.core import stage
from fincompress.core.files import write_json
from fincompress.core.params import load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import QatParams
from fincompress.data.prepared import calibration_texts, read_labels, read_split
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.training import train


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    qat: QatParams


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    plots: Path = Path("plots"),
    metrics: Path = Path("metrics/training"),
    seed: int | None = None,
) -> None:
    """Write the int8 model MODELS/qat, its learning curves to PLOTS, and METRICS/qat.json."""
    params = load_params(Needs, seed=seed)
    set_seed(params.seed)
    source, teacher = models / params.qat.source, models / "teacher"
    labels, tokenizer = read_labels(data), load_tokenizer(str(source))
    rows = {name: read_split(data, name) for name in ("train", "val")}
    texts = calibration_texts(rows["train"], params.qat.calibration_samples, params.seed)
    model = fake_quantize(load_model(str(source)), tokenizer, texts, params.qat.keep_classifier_float)
    train_set, val_set = (tokenise(rows[name], labels, tokenizer) for name in ("train", "val"))
    teachers = load_tokenizer(str(teacher))  # the source may have fewer word pieces
    read_as = tokenise(rows["train"], labels, teachers)
    train_set = add_teacher_logits(train_set, load_model(str(teacher)), teachers, read_as)
    with scratch_folder("qat", vars(params), [data, source, teacher]) as scratch:
        summary = train(
            model,
            tokenizer,
            train_set,
            val_set,
            params.qat,
            seed=params.seed,
            scratch=scratch.folder,
            curves=plots / "training" / "qat",
            objective=soft_label_objective(params.qat.temperature, params.qat.alpha),
        )
        about = {"source": params.qat.source, **summary}
        converted = convert(model, source, models / "qat", rows["val"], labels, about)
        write_json(metrics / "qat.json", {**summary, "val_macro_f1": converted["val_macro_f1"], **scratch.cost()})
    print(
        f"qat: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}; "
        f"converted to int8 {converted['val_macro_f1']:.4f}, {converted['agreement']:.1%} of predictions the same"
    )


if __name__ == "__main__":
    stage.run(main, trains=True)
