"""recover: distil the whole network into the pruned one, whose zeros stay zero (Hinton et al. 2015)."""

from pathlib import Path

import pandas as pd
from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import load_model, load_tokenizer, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.distillation import add_teacher_logits, soft_label_objective
from fincompress.files import atomic_file, remove_folder
from fincompress.params import load_params
from fincompress.sparsity import HoldZeros, count_kinds, sparsity
from fincompress.training import scratch_folder, train


def main(
    data: Path = Path("data"),
    teacher: Path = Path("models/baseline"),
    pruned: Path = Path("models/prune"),
    out: Path = Path("models/recover"),
    curves: Path = Path("plots/training/recover"),
    tables: Path = Path("plots/pruning/recover"),
    seed: int | None = None,
) -> None:
    """Write the recovered network to OUT, its learning curves to CURVES and TABLES/sparsity.csv."""
    params = load_params("seed", "recover", seed=seed)
    set_seed(params.seed)
    labels, tokenizer = read_labels(data), load_tokenizer(str(pruned))
    model, original = load_model(str(pruned)), load_model(str(teacher))
    whole = count_kinds(original)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    train_set = add_teacher_logits(train_set, original, tokenizer)
    scratch = scratch_folder("recover", vars(params), [data, teacher, pruned])
    summary = train(
        model,
        tokenizer,
        train_set,
        val_set,
        params.recover,
        seed=params.seed,
        scratch=scratch,
        curves=curves,
        objective=soft_label_objective(params.recover.temperature, params.recover.alpha),
        callbacks=[HoldZeros(model)],
    )
    left = sparsity(model, whole)
    save(model, tokenizer, out, {**summary, "sparsity": left})
    with atomic_file(tables / "sparsity.csv") as path:
        pd.DataFrame(left).to_csv(path, index=False, lineterminator="\n")
    remove_folder(scratch)
    print(f"recover: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
