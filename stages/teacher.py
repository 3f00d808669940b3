"""teacher, baseline: fine-tune a pretrained encoder on the prepared texts."""

from pathlib import Path
from typing import Literal

from transformers import set_seed

from fincompress import stage
from fincompress.checkpoints import has_head_for, load_for_labels, save
from fincompress.dataset import read_labels, read_split, tokenise
from fincompress.evaluation import published_scores
from fincompress.files import remove_folder
from fincompress.locate import locate
from fincompress.params import load_params
from fincompress.splitting import SPLITS
from fincompress.training import scratch_folder, train


def main(
    section: Literal["teacher", "baseline"],
    data: Path = Path("data"),
    models: Path = Path("models"),
    curves: Path = Path("plots/training"),
    seed: int | None = None,
) -> None:
    """Write the fine-tuned network to MODELS/SECTION and its learning curves to CURVES/SECTION."""
    loaded = load_params("seed", section, seed=seed)
    params = getattr(loaded, section)
    set_seed(loaded.seed)
    labels = read_labels(data)
    start = locate(params.checkpoint, params.revision, section, "checkpoint")
    model, tokenizer = load_for_labels(start.folder, labels, params.max_length, section)
    rows = {name: read_split(data, name) for name in SPLITS}
    about = {"origin": start.origin, "trained_on": params.trained_on, "published": None}
    if has_head_for(start.folder, labels):
        about["published"] = published_scores(model, tokenizer, {name: rows[name] for name in ("val", "test")}, labels)
    train_set, val_set = (tokenise(rows[name], labels, tokenizer) for name in ("train", "val"))
    scratch = scratch_folder(section, {**vars(loaded), **start.origin}, [data])
    summary = train(
        model, tokenizer, train_set, val_set, params, seed=loaded.seed, scratch=scratch, curves=curves / section
    )
    save(model, tokenizer, models / section, {**about, **summary})
    remove_folder(scratch)
    print(f"{section}: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
