"""recover: distil the whole network into the pruned one, whose zeros stay zero (Hinton et al. 2015)."""

from dataclasses import dataclass
from pathlib import Path

from transformers import set_seed

from fincompress.compress.soft_labels import add_teacher_logits, soft_label_objective
from fincompress.compress.sparsity import HoldZeros, count_kinds, sparsity
from fincompress.core import stage
from fincompress.core.files import write_csv, write_json
from fincompress.core.params import load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import SoftLabelParams
from fincompress.data.prepared import read_labels, read_split
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.networks.training import train


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    recover: SoftLabelParams


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    plots: Path = Path("plots"),
    metrics: Path = Path("metrics/training"),
    seed: int | None = None,
) -> None:
    """Write MODELS/recover (MODELS/prune with MODELS/baseline distilled into it), its curves, sparsity and metrics."""
    params, teacher, pruned = load_params(Needs, seed=seed), models / "baseline", models / "prune"
    set_seed(params.seed)
    labels, tokenizer = read_labels(data), load_tokenizer(str(pruned))
    model, original = load_model(str(pruned)), load_model(str(teacher))
    whole = count_kinds(original)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    train_set = add_teacher_logits(train_set, original, tokenizer)
    with scratch_folder("recover", vars(params), [data, teacher, pruned]) as scratch:
        summary = train(
            model,
            tokenizer,
            train_set,
            val_set,
            params.recover,
            seed=params.seed,
            scratch=scratch.folder,
            curves=plots / "training" / "recover",
            objective=soft_label_objective(params.recover.temperature, params.recover.alpha),
            callbacks=[HoldZeros(model)],
        )
        left = sparsity(model, whole)
        save(model, tokenizer, models / "recover", {**summary, "sparsity": left})
        write_csv(plots / "pruning" / "recover" / "sparsity.csv", left)
        write_json(metrics / "recover.json", {**summary, **scratch.cost()})
    print(f"recover: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
