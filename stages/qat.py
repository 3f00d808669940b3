"""qat: fine-tune a network with int8 fake quantisation towards the teacher, and convert it to int8 for OpenVINO."""

from pathlib import Path

from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import load_model, load_tokenizer
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.distillation import add_teacher_logits, soft_label_objective
from fincompress.files import remove_folder
from fincompress.params import load_params
from fincompress.qat import convert, fake_quantize
from fincompress.quantization import calibration_texts
from fincompress.training import scratch_folder, train


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    out: Path = Path("models/qat"),
    curves: Path = Path("plots/training/qat"),
    seed: int | None = None,
) -> None:
    """Write the int8 model to OUT and its learning curves to CURVES; start from the network in MODELS."""
    params = load_params("seed", "qat", seed=seed)
    set_seed(params.seed)
    source, teacher = models / params.qat.source, models / "teacher"
    labels, tokenizer = read_labels(data), load_tokenizer(str(source))
    rows = {name: read_split(data, name) for name in ("train", "val")}
    texts = calibration_texts(rows["train"], params.qat.calibration_samples, params.seed)
    model = fake_quantize(load_model(str(source)), tokenizer, texts, params.qat.keep_classifier_float)
    train_set, val_set = (tokenise(rows[name], labels, tokenizer) for name in ("train", "val"))
    train_set = add_teacher_logits(train_set, load_model(str(teacher)), tokenizer)
    scratch = scratch_folder("qat", vars(params), [data, source, teacher])
    summary = train(
        model,
        tokenizer,
        train_set,
        val_set,
        params.qat,
        seed=params.seed,
        scratch=scratch,
        curves=curves,
        objective=soft_label_objective(params.qat.temperature, params.qat.alpha),
    )
    converted = convert(model, source, out, rows["val"], labels, {"source": params.qat.source, **summary})
    remove_folder(scratch)
    print(
        f"qat: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}; "
        f"converted to int8 {converted['val_macro_f1']:.4f}, {converted['agreement']:.1%} of predictions the same"
    )


if __name__ == "__main__":
    stage.run(main, trains=True)
