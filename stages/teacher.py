"""teacher: fine-tune a pretrained encoder on the prepared texts."""

import shutil
from pathlib import Path

from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import load_for_labels, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.params import load_params
from fincompress.training import scratch_folder, train


def main(
    data: Path = Path("data"), out: Path = Path("models/teacher"), curves: Path = Path("plots/training/teacher")
) -> None:
    """Write the fine-tuned teacher to OUT and its learning curves to CURVES."""
    params = load_params("seed", "teacher")
    set_seed(params.seed)
    labels = read_labels(data)
    model, tokenizer = load_for_labels(params.teacher.checkpoint, labels, params.teacher.max_length)
    train_set, val_set = (tokenise(read_split(data, name), labels, tokenizer) for name in ("train", "val"))
    scratch = scratch_folder("teacher", vars(params), [data])
    summary = train(
        model, tokenizer, train_set, val_set, params.teacher, seed=params.seed, scratch=scratch, curves=curves
    )
    save(model, tokenizer, out, summary)
    shutil.rmtree(scratch)
    print(f"teacher: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main)
