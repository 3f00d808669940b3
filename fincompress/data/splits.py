"""Cleaning and splitting: no text occurs twice, has two labels, or is in two splits."""

from collections.abc import Iterator

import numpy as np
import pandas as pd

from fincompress.core.data_sections import AgNewsParams, PrepareParams
from fincompress.core.errors import InputError
from fincompress.data.prepared import SPLITS, normalise


def clean(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """Collapse whitespace, drop every copy of a text that has two labels, keep one copy of every other text.

    Returns:
        The remaining rows in their original order, and how many were dropped: `conflicting` (all copies of texts
        with more than one label) and `duplicates` (further copies of the same text and label).
    """
    key = frame["text"].map(normalise)
    conflicting = frame["label"].groupby(key).transform("nunique") > 1
    consistent = frame[~conflicting]
    kept = consistent[~key[~conflicting].duplicated()]
    kept = kept.assign(text=kept["text"].map(lambda text: " ".join(text.split())))
    dropped = {"conflicting": int(conflicting.sum()), "duplicates": len(consistent) - len(kept)}
    return kept.reset_index(drop=True), dropped


def split(frame: pd.DataFrame, labels: list[str], params: PrepareParams, seed: int) -> dict[str, pd.DataFrame]:
    """Split rows into train, val and test, with the same label shares in each.

    `params.max_rows` first takes a stratified sample. Rows of a source in `params.exclude_from_test` only go to train
    and val. Where `frame` has a column `group`, the rows of a group stay together, and label shares are as alike as
    that allows. The result depends on nothing but the rows, the params and the seed.

    Raises:
        InputError: a label has too few rows for every split to get one, or there is no source of that name.
    """
    unknown = sorted(set(params.exclude_from_test) - set(frame["source"]))
    if unknown:
        raise InputError(
            f"params.yaml: prepare.exclude_from_test: no rows of source {', '.join(unknown)}; "
            f"there are {', '.join(sorted(set(frame['source'])))}"
        )
    generator = np.random.default_rng(seed)
    if "group" in frame:
        return _split_by_group(frame, labels, params, generator)
    tested = ~frame["source"].isin(params.exclude_from_test).to_numpy()
    parts: dict[str, list[int]] = {name: [] for name in SPLITS}
    for label, rows in _sample(frame, labels, params.max_rows, generator):
        test = rows[tested[rows]][: round(tested[rows].sum() * params.split.test)]
        others = rows[~np.isin(rows, test)]
        if params.exclude_from_test:  # rows of excluded sources come first more often than last
            others = generator.permutation(others)
        val = round(len(rows) * params.split.val)
        if min(len(test), val, len(others) - val) < 1:
            raise _too_few(label, len(rows))
        parts["test"].extend(test)
        parts["val"].extend(others[:val])
        parts["train"].extend(others[val:])
    return _frames(frame, parts)


def _too_few(label: str, rows: int, further: str = "") -> InputError:
    return InputError(
        f"label `{label}` has {rows} rows{further} after cleaning, too few for one each in train, val and test; "
        "add rows, merge labels, or raise prepare.split or prepare.max_rows"
    )


def _split_by_group(
    frame: pd.DataFrame, labels: list[str], params: PrepareParams, generator: np.random.Generator
) -> dict[str, pd.DataFrame]:
    """The largest group first, each goes where its labels are lacking most; a row without a group is one of its own."""
    rows = np.sort(np.concatenate([rows for _, rows in _sample(frame, labels, params.max_rows, generator)]))
    sample = frame.iloc[rows]
    alone = "\0" + sample["id"]  # the name of no group
    group, _ = pd.factorize(sample["group"].where(sample["group"] != "", alone))
    counts = np.zeros((group.max() + 1, len(labels)))  # [groups, labels]
    np.add.at(counts, (group, pd.Index(labels).get_indexer(sample["label"])), 1)
    barred = np.bincount(group, sample["source"].isin(params.exclude_from_test)) > 0  # from the test split
    shares = np.array([1 - params.split.val - params.split.test, params.split.val, params.split.test])
    wanted = np.maximum(shares[:, None] * counts.sum(axis=0), 1e-9)  # [splits, labels]
    given, place = np.zeros_like(wanted), np.zeros(len(counts), dtype=int)
    shuffled = generator.permutation(len(counts))
    for number in shuffled[np.argsort(-counts[shuffled].sum(axis=1), kind="stable")]:
        lack = ((1 - given / wanted) * counts[number]).sum(axis=1)
        if barred[number]:
            lack[SPLITS.index("test")] = -np.inf
        place[number] = lack.argmax()
        given[place[number]] += counts[number]
    for column, label in enumerate(labels):
        if (given[:, column] < 1).any():
            groups = int((counts[:, column] > 0).sum())
            raise _too_few(label, int(counts[:, column].sum()), f" in {groups} groups")
    return _frames(frame, {name: rows[place[group] == number].tolist() for number, name in enumerate(SPLITS)})


def clean_own_splits(frame: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, int]]:
    """`clean` for rows whose column `split` says where they belong; no text stays in two splits.

    Of copies in several splits, that of the test split is kept, or else that of val. How many rows went for that is
    `across_splits`; they are among the `duplicates`.
    """
    order = frame["split"].map({"test": 0, "val": 1, "train": 2})
    kept, dropped = clean(frame.iloc[np.argsort(order, kind="stable")])
    kept = kept.assign(row=pd.Index(frame["id"]).get_indexer(kept["id"])).sort_values("row").drop(columns="row")
    texts = frame.assign(key=frame["text"].map(normalise))
    copies = texts[texts["key"].isin(kept["text"].map(normalise))].drop_duplicates(["key", "split"])
    return kept.reset_index(drop=True), {**dropped, "across_splits": len(copies) - len(kept)}


def own_splits(frame: pd.DataFrame, labels: list[str], most: int | None, seed: int) -> dict[str, pd.DataFrame]:
    """The splits that the column `split` says; `most` rows at most, the same share of each label in each split.

    Raises:
        InputError: a split is empty, or a label has no training row.
    """
    generator = np.random.default_rng(seed)
    share = min(1.0, most / len(frame)) if most and len(frame) else 1.0
    parts: dict[str, list[int]] = {}
    for name in SPLITS:
        parts[name] = []
        for label in labels:
            rows = generator.permutation(np.flatnonzero((frame["split"] == name) & (frame["label"] == label)))
            if name == "train" and not len(rows):
                raise InputError(
                    f"label `{label}` has no training row after cleaning; add some, or leave the label out"
                )
            parts[name].extend(rows[: max(1, round(len(rows) * share))])
        if not parts[name]:
            raise InputError(f"the split {name} is empty after cleaning (prepare.files); name rows for it")
    return _frames(frame, parts)


def split_training(frame: pd.DataFrame, labels: list[str], params: AgNewsParams, seed: int) -> dict[str, pd.DataFrame]:
    """Split the rows of a data set that comes with its own test split into train and val, by label.

    `params.max_train_rows` first takes a stratified sample, validation rows included.

    Raises:
        InputError: a label has too few rows for both splits to get one.
    """
    generator = np.random.default_rng(seed)
    parts: dict[str, list[int]] = {"train": [], "val": []}
    for label, rows in _sample(frame, labels, params.max_train_rows, generator):
        val = round(len(rows) * params.val)
        if min(val, len(rows) - val) < 1:
            raise InputError(
                f"label `{label}` has {len(rows)} training rows, too few for one each in train and val; "
                "add rows, or raise prepare.val or prepare.max_train_rows"
            )
        parts["val"].extend(rows[:val])
        parts["train"].extend(rows[val:])
    return _frames(frame, parts)


def without(frame: pd.DataFrame, test: pd.DataFrame) -> pd.DataFrame:
    """The rows of `frame` whose text does not occur in `test`."""
    held_out = set(test["text"].map(normalise))
    return frame[~frame["text"].map(normalise).isin(held_out)].reset_index(drop=True)


def _sample(
    frame: pd.DataFrame, labels: list[str], most: int | None, generator: np.random.Generator
) -> Iterator[tuple[str, np.ndarray]]:
    """For each label, its rows' positions in random order; the same share of each label, at most `most` rows in all."""
    share = min(1.0, most / len(frame)) if most and len(frame) else 1.0
    for label in labels:
        rows = generator.permutation(np.flatnonzero(frame["label"] == label))
        yield label, rows[: round(len(rows) * share)]


def _frames(frame: pd.DataFrame, parts: dict[str, list[int]]) -> dict[str, pd.DataFrame]:
    """The rows at these positions, in the order of `frame`."""
    return {name: frame.iloc[sorted(rows)].reset_index(drop=True) for name, rows in parts.items()}


def summarise(splits: dict[str, pd.DataFrame], dropped: dict[str, int]) -> dict:
    """Rows, label shares, sources, dropped rows and text lengths (in words) of a prepared data set."""
    texts = pd.concat(splits.values())["text"]
    words = texts.str.split().str.len()
    return {
        "rows": {"all": len(texts), **{name: len(rows) for name, rows in splits.items()}},
        "dropped": dropped,
        "label_share": {
            name: rows["label"].value_counts(normalize=True).sort_index().round(4).to_dict()
            for name, rows in splits.items()
        },
        "sources": {name: rows["source"].value_counts().sort_index().to_dict() for name, rows in splits.items()},
        "words": {f"p{q}": int(np.percentile(words, q, method="higher")) for q in (5, 50, 95, 99, 100)},
    }
