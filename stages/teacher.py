"""teacher: fine-tune a pretrained encoder on the prepared texts."""

import shutil
from pathlib import Path

from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import has_head_for, load_for_labels, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.evaluation import published_scores
from fincompress.locate import locate
from fincompress.params import load_params
from fincompress.splitting import SPLITS
from fincompress.training import scratch_folder, train


def main(
    data: Path = Path("data"),
    out: Path = Path("models/teacher"),
    curves: Path = Path("plots/training/teacher"),
    seed: int | None = None,
) -> None:
    """Write the fine-tuned teacher to OUT and its learning curves to CURVES."""
    params = load_params("seed", "teacher", seed=seed)
    set_seed(params.seed)
    labels = read_labels(data)
    start = locate(params.teacher.checkpoint, params.teacher.revision, "teacher", "checkpoint")
    model, tokenizer = load_for_labels(start.folder, labels, params.teacher.max_length)
    rows = {name: read_split(data, name) for name in SPLITS}
    about = {"origin": start.origin, "trained_on": params.teacher.trained_on, "published": None}
    if has_head_for(start.folder, labels):
        about["published"] = published_scores(model, tokenizer, {name: rows[name] for name in ("val", "test")}, labels)
    train_set, val_set = (tokenise(rows[name], labels, tokenizer) for name in ("train", "val"))
    scratch = scratch_folder("teacher", {**vars(params), **start.origin}, [data])
    summary = train(
        model, tokenizer, train_set, val_set, params.teacher, seed=params.seed, scratch=scratch, curves=curves
    )
    save(model, tokenizer, out, {**about, **summary})
    shutil.rmtree(scratch)
    print(f"teacher: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main)
