"""Test sentences to which a variant says something else than the reference, by the last benchmark."""

from pathlib import Path

import pandas as pd


def differing(predictions: Path, test: Path, reference: str, count: int = 5) -> dict[str, list[str]]:
    """Variant -> its first `count` sentences, in the order of the test split; nothing where a file is missing.

    Args:
        predictions: plots/tables/predictions.csv: `id`, `label` and a column per variant.
        test: data/test.csv. Rows whose id and label are not those of a single row of `predictions`, as where the texts
            were split anew since, are left out.
    """
    if not (predictions.is_file() and test.is_file()):
        return {}
    said, rows = (pd.read_csv(file, dtype=str, keep_default_na=False) for file in (predictions, test))
    key = ["id", "label"]
    said, rows = (frame.drop_duplicates(key, keep=False) for frame in (said, rows[[*key, "text"]]))
    joined = said.merge(rows, on=key)
    if reference not in joined:
        return {}
    variants = [name for name in said.columns if name not in (*key, reference)]
    return {name: joined.loc[joined[name] != joined[reference], "text"].head(count).tolist() for name in variants}
