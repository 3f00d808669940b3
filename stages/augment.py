"""augment: collect the texts that `tiny` learns from, and the teacher's answers to them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd

from fincompress.compress.answers import answers
from fincompress.compress.neighbours import nearest_words
from fincompress.core import stage
from fincompress.core.files import atomic_folder, write_csv
from fincompress.core.params import Key, load_params
from fincompress.core.scratch import scratch_folder
from fincompress.core.sections import AugmentParams
from fincompress.data.augmentation import augment, unlike, words_of
from fincompress.data.further import read_transfer
from fincompress.data.prepared import read_split
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import load_model, load_tokenizer


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    seed: int
    augment: AugmentParams
    transfer: Annotated[str, Key("kd.transfer")]


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    seed: int | None = None,
) -> None:
    """Write MODELS/augmented: `texts.csv` (training texts, unlabelled ones, variants) and MODELS/teacher's answers.

    Variants are made of training texts alone, and those like a text that is held out are left out.
    """
    params, folder = load_params(Needs, seed=seed), models / "teacher"
    teacher, tokenizer = load_model(str(folder)), load_tokenizer(str(folder))
    train, transfer = read_split(data, "train")[["text", "label"]], read_transfer(params.transfer, data)
    neighbours = nearest_words(teacher, tokenizer, words_of(train["text"]))
    made = augment(train["text"], params.augment.variants, params.seed, neighbours)
    held_out = [text for name in ("val", "test") for text in read_split(data, name)["text"]]
    variants = unlike(made, held_out)
    texts = pd.concat(
        [
            train.assign(origin="train"),
            transfer.assign(origin="transfer"),
            pd.DataFrame({"text": variants}).assign(origin="variant"),
        ],
        ignore_index=True,
    )
    with scratch_folder("augment", vars(params), [data, folder, Path(params.transfer)]) as scratch:
        found = answers(tokenise(texts[["text"]], [], tokenizer), teacher, tokenizer, scratch.folder)
        with atomic_folder(models / "augmented") as out:
            write_csv(out / "texts.csv", texts)
            np.save(out / "logits.npy", found)
    print(
        f"augment: {len(train)} training texts, {len(transfer)} unlabelled ones and {len(variants)} variants; "
        f"{len(made) - len(variants)} left out, being like texts that are held out"
    )


if __name__ == "__main__":
    stage.run(main)
