"""prune30, prune50, prune: remove a share of a network's attention heads in rounds, recovering after each."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from transformers import set_seed

from fincompress.compress.pruning import predict, prune, removal_schedule
from fincompress.compress.sparsity import count_kinds, sparsity, zero_smallest
from fincompress.core import stage
from fincompress.core.files import read_json, write_csv, write_json
from fincompress.core.params import Key, load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import PruneParams, SparsePruneParams
from fincompress.data.prepared import read_labels, read_split
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.networks.scores import macro_f1
from fincompress.networks.structure import Structure, structure_of


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    own: Annotated[PruneParams, Key("{section}")]


def main(
    section: str,
    data: Path = Path("data"),
    models: Path = Path("models"),
    plots: Path = Path("plots"),
    metrics: Path = Path("metrics/training"),
    seed: int | None = None,
) -> None:
    """Write MODELS/SECTION, pruned as that section of params.yaml says, its tables to PLOTS, and METRICS."""
    params = load_params(Needs, section, seed=seed)
    set_seed(params.seed)
    source = models / params.own.source
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    before = read_json(source / "training.json").get("pruning")
    start = Structure(**before["start"]) if before else structure_of(model)
    schedule = removal_schedule(start, params.own, section, before)
    whole = count_kinds(model)
    labels = read_labels(data)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    with scratch_folder(section, vars(params), [data, source]) as scratch:
        model, record = prune(
            model,
            tokenizer,
            train_set,
            val_set,
            params.own,
            schedule=schedule,
            seed=params.seed,
            scratch=scratch.folder,
            record=before,
        )
        last = record["rounds"][-1]
        f1 = last["val_macro_f1_recovered"]
        tables = {"rounds": record["rounds"], "importance": record["importance"]}
        if isinstance(params.own, SparsePruneParams):
            zero_smallest(model, params.own.amount)
            f1 = macro_f1(np.array(val_set["labels"]), predict(model, tokenizer, val_set))
            tables["sparsity"] = record["sparsity"] = sparsity(model, whole)
        save(model, tokenizer, models / section, {"val_macro_f1": f1, "pruning": record})
        for name, rows in tables.items():
            write_csv(plots / "pruning" / section / f"{name}.csv", rows)
        write_json(
            metrics / f"{section}.json", {"val_macro_f1": f1, "heads_left": last["heads_left"], **scratch.cost()}
        )
    print(f"{section}: val macro F1 {f1:.4f} with {last['heads_left']} heads left")


if __name__ == "__main__":
    stage.run(main, trains=True)
