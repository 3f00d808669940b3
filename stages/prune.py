"""prune30, prune50, prune: remove a share of a network's attention heads round by round, recovering in between."""

from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import load_model, load_tokenizer, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.evaluation import macro_f1
from fincompress.files import atomic_file, read_json, remove_folder
from fincompress.params import SparsePruneParams, load_params
from fincompress.pruning import predict, prune, removal_schedule
from fincompress.sparsity import count_kinds, sparsity, zero_smallest
from fincompress.surgery import Structure, structure_of
from fincompress.training import scratch_folder


def main(
    section: Literal["prune30", "prune50", "prune"],
    data: Path = Path("data"),
    models: Path = Path("models"),
    tables: Path = Path("plots/pruning"),
    seed: int | None = None,
) -> None:
    """Write MODELS/SECTION, pruned as that section of params.yaml says, and its tables to TABLES/SECTION."""
    loaded = load_params("seed", section, seed=seed)
    params = getattr(loaded, section)
    set_seed(loaded.seed)
    source = models / params.source
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    before = read_json(source / "training.json").get("pruning")
    start = Structure(**before["start"]) if before else structure_of(model)
    schedule = removal_schedule(start, params, section, before)
    whole = count_kinds(model) if isinstance(params, SparsePruneParams) else None
    labels = read_labels(data)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    scratch = scratch_folder(section, vars(loaded), [data, source])
    model, record = prune(
        model,
        tokenizer,
        train_set,
        val_set,
        params,
        schedule=schedule,
        seed=loaded.seed,
        scratch=scratch,
        record=before,
    )
    last = record["rounds"][-1]
    f1 = last["val_macro_f1_recovered"]
    written = {"rounds": record["rounds"], "importance": record["importance"]}
    if whole:
        zero_smallest(model, params.amount)
        f1 = macro_f1(np.array(val_set["labels"]), predict(model, tokenizer, val_set))
        written["sparsity"] = record["sparsity"] = sparsity(model, whole)
    save(model, tokenizer, models / section, {"val_macro_f1": f1, "pruning": record})
    for name, rows in written.items():
        with atomic_file(tables / section / f"{name}.csv") as path:
            pd.DataFrame(rows).to_csv(path, index=False, lineterminator="\n")
    remove_folder(scratch)
    print(f"{section}: val macro F1 {f1:.4f} with {last['heads_left']} heads left")


if __name__ == "__main__":
    stage.run(main, trains=True)
