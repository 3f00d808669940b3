"""Test sentences to which a variant says something else than the reference, by the last benchmark."""

from pathlib import Path

import pandas as pd


def differing(predictions: Path, test: Path, reference: str, count: int = 5) -> dict[str, list[str]]:
    """Variant -> its first `count` sentences, in the order of the test split; nothing where a file is missing.

    Args:
        predictions: plots/tables/predictions.csv: `id`, `label` and a column per variant.
        test: data/test.csv, whose `id` and `text` are read. Rows that another split has under the same id are left out.
    """
    if not (predictions.is_file() and test.is_file()):
        return {}
    said, rows = (pd.read_csv(file, dtype=str, keep_default_na=False) for file in (predictions, test))
    joined = said.merge(rows[["id", "label", "text"]], on=["id", "label"], validate="one_to_one")
    if reference not in joined:
        return {}
    variants = [name for name in said.columns if name not in ("id", "label", reference)]
    return {name: joined.loc[joined[name] != joined[reference], "text"].head(count).tolist() for name in variants}
