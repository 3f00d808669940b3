"""What `benchmark` measures only for comparison: the reference in other runtimes, PyTorch's own int8, the floor."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pandas as pd

from fincompress.core.runtimes import RUNTIMES, load_object
from fincompress.core.threads import usable_cores
from fincompress.core.variants import FLOOR, Variant


def make_comparators(variants: list[Variant], train: pd.DataFrame, labels: list[str], models: Path) -> None:
    """Make those of `variants` (see `variants.measured_variants`) that no stage has made, side by side.

    Args:
        train: the training split, on which the bag of words is fitted.
        labels: names in id order.
        models: where the checkpoints are.
    """
    conversions = [conversion for variant in variants if (conversion := _conversion(variant, models))]
    # Tracing a network keeps one core busy. `spawn`: a forked copy of a process that has threads may hang.
    processes = ProcessPoolExecutor(
        max(1, min(usable_cores(), len(conversions))), mp_context=multiprocessing.get_context("spawn")
    )
    with processes:
        running = [processes.submit(_convert, *conversion) for conversion in conversions]
        for variant in variants:
            if variant.network == FLOOR:
                from fincompress.runtimes.bag_of_words import BagOfWords

                BagOfWords.fit(train, labels).save(variant.folder)
        for result in running:
            result.result()  # or the error that ended it


def _conversion(variant: Variant, models: Path) -> tuple[str, Path, Path] | None:
    """What makes a comparator of a checkpoint: its `module:name`, the checkpoint and the folder to write."""
    if variant.shipped:
        return "fincompress.compress.ptq:save_torch_int8", variant.folder, variant.shipped
    if variant.name.endswith("_fp32") and (converts := RUNTIMES[variant.runtime].to_fp32):
        return converts, models / variant.network, variant.folder
    return None


def _convert(function: str, checkpoint: Path, out: Path) -> None:
    load_object(function)(checkpoint, out)
