"""teacher, baseline: fine-tune a pretrained encoder on the prepared texts."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from transformers import set_seed

from fincompress.core import stage
from fincompress.core.files import write_json
from fincompress.core.params import Key, load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import TeacherParams
from fincompress.data.prepared import SPLITS, read_labels, read_split
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import has_head_for, load_for_labels, save
from fincompress.networks.locate import locate
from fincompress.networks.logits import published_scores
from fincompress.networks.training import train


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    own: Annotated[TeacherParams, Key("{section}")]


def main(
    section: str,
    data: Path = Path("data"),
    models: Path = Path("models"),
    plots: Path = Path("plots"),
    metrics: Path = Path("metrics/training"),
    seed: int | None = None,
) -> None:
    """Write the fine-tuned MODELS/SECTION, its learning curves to PLOTS, and METRICS/SECTION.json."""
    params = load_params(Needs, section, seed=seed)
    set_seed(params.seed)
    labels = read_labels(data)
    start = locate(params.own.checkpoint, params.own.revision, section, "checkpoint")
    mapped, trains = params.own.label_map, params.own.epochs > 0
    model, tokenizer = load_for_labels(start.folder, labels, params.own.max_length, section, mapped, not trains)
    rows = {name: read_split(data, name) for name in SPLITS}
    about = {"origin": start.origin, "trained_on": params.own.trained_on, "published": None}
    if has_head_for(start.folder, labels, mapped):
        about["published"] = published_scores(model, tokenizer, {name: rows[name] for name in ("val", "test")}, labels)
    train_set, val_set = (tokenise(rows[name], labels, tokenizer) for name in ("train", "val"))
    with scratch_folder(section, {**vars(params), **start.origin}, [data]) as scratch:
        summary = train(
            model,
            tokenizer,
            train_set,
            val_set,
            params.own,
            seed=params.seed,
            scratch=scratch.folder,
            curves=plots / "training" / section,
        )
        save(model, tokenizer, models / section, {**about, **summary})
        write_json(metrics / f"{section}.json", {**summary, **scratch.cost()})
    print(f"{section}: val macro F1 {summary['val_macro_f1']:.4f} at epoch {summary['best_epoch']}")


if __name__ == "__main__":
    stage.run(main, trains=True)
