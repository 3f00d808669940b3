"""Cleaning and splitting keep their promises on any data (hypothesis)."""

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from fincompress.core.data_sections import PrepareParams
from fincompress.core.errors import InputError
from fincompress.core.params import checked_params
from fincompress.data.prepared import SPLITS, normalise
from fincompress.data.readers import COLUMNS
from fincompress.data.splits import clean, split, summarise

LABELS = ["bad", "good"]
texts = st.text(alphabet="aAbB \t", min_size=1, max_size=5).filter(str.strip)
rows = st.lists(st.tuples(texts, st.sampled_from(LABELS)), min_size=1, max_size=60)


def frame(pairs) -> pd.DataFrame:
    return pd.DataFrame([(str(i), t, label, "s", "") for i, (t, label) in enumerate(pairs)], columns=COLUMNS)


def params(val=0.15, test=0.15, max_rows=None, exclude_from_test=()) -> PrepareParams:
    values = checked_params(ROOT / "params.yaml").prepare.model_dump()
    changes = {"split": {"val": val, "test": test}, "max_rows": max_rows, "exclude_from_test": list(exclude_from_test)}
    return PrepareParams(**{**values, **changes})


@given(rows)
def test_cleaning_leaves_each_consistent_text_once(pairs):
    kept, dropped = clean(frame(pairs))
    labels_of: dict[str, set] = {}
    for text, label in pairs:
        labels_of.setdefault(normalise(text), set()).add(label)
    consistent = {text for text, labels in labels_of.items() if len(labels) == 1}
    assert sorted(kept["text"].map(normalise)) == sorted(consistent)
    assert len(kept) + dropped["conflicting"] + dropped["duplicates"] == len(pairs)
    assert dropped["conflicting"] == sum(normalise(text) not in consistent for text, _ in pairs)


def numbered(bad: int, good: int) -> pd.DataFrame:
    return frame([(f"text {i}", LABELS[i >= bad]) for i in range(bad + good)])


sizes = st.integers(min_value=10, max_value=120)


@settings(max_examples=50)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_split_is_a_stratified_partition(bad, good, seed):
    data = numbered(bad, good)
    parts = split(data, LABELS, params(), seed)
    assert sorted(pd.concat(parts.values())["id"]) == sorted(data["id"])
    for label, count in (("bad", bad), ("good", good)):
        shares = {name: (part["label"] == label).sum() for name, part in parts.items()}
        assert shares["val"] == shares["test"] == round(0.15 * count)


@settings(max_examples=20)
@given(sizes, sizes, st.integers(0, 2**32 - 1))
def test_split_depends_on_the_seed_alone(bad, good, seed):
    data = numbered(bad, good)
    first, second = (split(data, LABELS, params(), seed) for _ in range(2))
    assert all(first[name].equals(second[name]) for name in SPLITS)


def test_another_seed_gives_another_split():
    data = numbered(50, 50)
    assert not split(data, LABELS, params(), 1)["test"].equals(split(data, LABELS, params(), 2)["test"])


def test_max_rows_takes_a_stratified_sample():
    parts = split(numbered(100, 300), LABELS, params(max_rows=100), 0)
    together = pd.concat(parts.values())
    assert together["label"].value_counts().to_dict() == {"good": 75, "bad": 25}


def test_an_excluded_source_has_no_test_row_and_loses_none():
    data = numbered(60, 100).assign(source=["seen", "new"] * 80)
    parts = split(data, LABELS, params(exclude_from_test=["seen"]), 0)
    assert set(parts["test"]["source"]) == {"new"} and set(parts["val"]["source"]) == {"seen", "new"}
    assert len(parts["test"]) == round(0.15 * 30) + round(0.15 * 50)
    assert sorted(pd.concat(parts.values())["id"]) == sorted(data["id"])
    assert summarise(parts, {})["sources"]["test"] == {"new": 12}


def test_excluding_an_unknown_source_names_those_there_are():
    with pytest.raises(InputError, match=r"prepare\.exclude_from_test: no rows of source typo; there are s"):
        split(numbered(20, 20), LABELS, params(exclude_from_test=["typo"]), 0)


def test_a_label_with_too_few_rows_is_named():
    with pytest.raises(InputError, match="label `bad` has 3 rows"):
        split(numbered(3, 50), LABELS, params(), 0)


def test_summary_counts_what_is_there():
    parts = split(numbered(40, 60), LABELS, params(), 0)
    summary = summarise(parts, {"duplicates": 2, "conflicting": 1})
    assert summary["rows"] == {"all": 100, "train": 70, "val": 15, "test": 15}
    assert summary["label_share"]["train"] == {"bad": 0.4, "good": 0.6}
    assert summary["words"]["p100"] == 2
