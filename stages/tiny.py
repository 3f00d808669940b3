"""tiny: take layers, heads, neurons and word pieces out of a network, and distil the rest on the texts of `augment`."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from transformers import set_seed

from fincompress.compress.student import select_layers
from fincompress.compress.tiny import add_targets, build_tiny, tiny_objective
from fincompress.core import stage
from fincompress.core.files import write_json
from fincompress.core.params import load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import TinyParams
from fincompress.data.prepared import read_labels, read_split
from fincompress.networks.batches import add_unlabelled, tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.networks.training import train


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    tiny: TinyParams


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    plots: Path = Path("plots"),
    metrics: Path = Path("metrics/training"),
    seed: int | None = None,
) -> None:
    """Write MODELS/tiny, cut out of its source and distilled on MODELS/augmented, its curves to PLOTS, and METRICS."""
    params = load_params(Needs, seed=seed)
    set_seed(params.seed)
    labels, augmented = read_labels(data), models / "augmented"
    texts = pd.read_csv(augmented / "texts.csv", dtype=str, keep_default_na=False)
    labelled = texts[texts["origin"] == "train"]
    written = texts.loc[texts["origin"] != "variant", "text"].tolist()  # by people
    source = models / params.tiny.source
    whole, wholes = load_model(str(source)), load_tokenizer(str(source))
    layers = select_layers(params.tiny.layers, whole.config.num_hidden_layers, params.tiny.layer_selection)
    scored = tokenise(labelled, labels, wholes)
    student, tokenizer = build_tiny(load_model(str(source)), wholes, scored, written, params.tiny, params.seed)
    train_set, val_set = (tokenise(rows, labels, tokenizer) for rows in (labelled, read_split(data, "val")))
    train_set = add_unlabelled(train_set, texts.loc[texts["origin"] != "train", ["text"]], tokenizer)
    train_set = train_set.add_column("teacher_logits", np.load(augmented / "logits.npy").tolist())
    with scratch_folder("tiny", vars(params), [data, source, augmented]) as scratch:
        targets = None
        if params.tiny.lambda_hidden:
            folder = scratch.folder / "targets"
            train_set, targets = add_targets(train_set, tokenizer, whole, wholes, layers, folder)
        summary = train(
            student,
            tokenizer,
            train_set,
            val_set,
            params.tiny,
            seed=params.seed,
            scratch=scratch.folder,
            curves=plots / "training" / "tiny",
            objective=tiny_objective(params.tiny, targets),
        )
        save(student, tokenizer, models / "tiny", {"source": params.tiny.source, **summary})
        write_json(metrics / "tiny.json", {**summary, **scratch.cost()})
    print(
        f"tiny: {student.num_parameters()} parameters, {len(tokenizer)} word pieces; "
        f"val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}"
    )


if __name__ == "__main__":
    stage.run(main, trains=True)
