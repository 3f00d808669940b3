"""What `benchmark` measures only to compare with: the reference in other runtimes, PyTorch's own int8, the floor."""

from pathlib import Path

import pandas as pd

from fincompress.core.runtimes import RUNTIMES, load_object
from fincompress.core.variants import FLOOR, Variant


def make_comparators(variants: list[Variant], train: pd.DataFrame, labels: list[str], models: Path) -> None:
    """Make those of `variants` (see `variants.measured_variants`) that no stage has made.

    Args:
        train: the training split, which the bag of words learns from.
        labels: names in id order.
        models: where the checkpoints are.
    """
    for variant in variants:
        if variant.network == FLOOR:
            from fincompress.runtimes.bag_of_words import BagOfWords

            BagOfWords.fit(train, labels).save(variant.folder)
        elif variant.shipped:
            from fincompress.compress.ptq import save_torch_int8

            save_torch_int8(variant.folder, variant.shipped)
        elif variant.name.endswith("_fp32"):
            load_object(RUNTIMES[variant.runtime].to_fp32)(models / variant.network, variant.folder)
