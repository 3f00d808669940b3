"""prune30, prune50: remove a share of a network's attention heads round by round, recovering in between."""

import shutil
from pathlib import Path
from typing import Literal

import pandas as pd
from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import load_model, load_tokenizer, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.files import atomic_file, read_json
from fincompress.params import load_params
from fincompress.pruning import prune, removal_schedule
from fincompress.surgery import Structure, structure_of
from fincompress.training import scratch_folder


def main(
    section: Literal["prune30", "prune50"],
    data: Path = Path("data"),
    models: Path = Path("models"),
    tables: Path = Path("plots/pruning"),
    seed: int | None = None,
) -> None:
    """Write MODELS/SECTION, pruned as that section of params.yaml says, and TABLES/SECTION/{rounds,importance}.csv."""
    loaded = load_params("seed", section, seed=seed)
    params = getattr(loaded, section)
    set_seed(loaded.seed)
    source = models / params.source
    model, tokenizer = load_model(str(source)), load_tokenizer(str(source))
    before = read_json(source / "training.json").get("pruning")
    start = Structure(**before["start"]) if before else structure_of(model)
    schedule = removal_schedule(start, params, section, before)
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
    save(model, tokenizer, models / section, {"val_macro_f1": last["val_macro_f1_recovered"], "pruning": record})
    for name in ("rounds", "importance"):
        with atomic_file(tables / section / f"{name}.csv") as path:
            pd.DataFrame(record[name]).to_csv(path, index=False, lineterminator="\n")
    shutil.rmtree(scratch)
    print(f"{section}: val macro F1 {last['val_macro_f1_recovered']:.4f} with {last['heads_left']} heads left")


if __name__ == "__main__":
    stage.run(main)
