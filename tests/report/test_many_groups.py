"""Many labels and many sources: tables, figures and intervals stay readable and quick."""

import io
import time

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot as plt

from fincompress.benchmark.significance import bootstrap_intervals
from fincompress.core.groups import MOST_GROUPS, OTHERS, largest
from fincompress.networks.scores import breakdown, macro_f1
from fincompress.report.figures.quality import confusion_matrices, f1_by_group
from fincompress.report.figures.style import STYLE
from fincompress.report.groups import largest_counts
from fincompress.report.page import svg

LABELS = [f"intent number {number}" for number in range(77)]
DPI, MOST_PIXELS = 110, 65_536


def rows(sources: int, labels: list[str] = LABELS) -> pd.DataFrame:
    """Label and source of 3,000 rows; the first sources have the most."""
    generator = np.random.default_rng(0)
    source = np.minimum(generator.geometric(3 / sources, 3000) - 1, sources - 1)
    return pd.DataFrame(
        {"label": generator.choice(labels, 3000), "source": [f"$T{number}$$" for number in source], "phenomenon": ""}
    )


@pytest.fixture(autouse=True)
def style():
    with plt.rc_context(STYLE):
        yield
    plt.close("all")


def drawn(figure) -> str:
    """A figure as SVG, saved once before as PNG, as the stage does."""
    figure.savefig(io.BytesIO(), dpi=DPI)
    width, height = figure.get_size_inches() * DPI
    assert max(width, height) < MOST_PIXELS / 4
    return svg(figure)


def test_small_sources_are_scored_together():
    frame = rows(400)
    predicted = np.where(np.random.default_rng(1).random(3000) < 0.8, frame["label"], LABELS[0])
    table = breakdown(frame, predicted).query("group == 'source'").set_index("value")
    counts = frame["source"].value_counts()
    assert len(table) == MOST_GROUPS + 1 and table["rows"].sum() == 3000
    named = table.drop(index=OTHERS)
    assert (named["rows"] == counts[named.index]).all()
    assert sorted(named["rows"], reverse=True) == counts.head(MOST_GROUPS).tolist()
    rest = ~frame["source"].isin(named.index).to_numpy()
    assert table.loc[OTHERS, "f1"] == pytest.approx(macro_f1(frame["label"].to_numpy()[rest], predicted[rest]))


def test_few_values_stay_as_they_are_and_empty_ones_do_not_count():
    few = pd.Series([str(number) for number in range(MOST_GROUPS)] + [""])
    assert largest(few) is few
    values = pd.Series(["a", "a", "b", "", "c", "others", "others"])
    assert largest(values, 2).tolist() == ["a", "a", "all others", "", "all others", "others", "others"]


def test_figures_of_many_labels_and_of_names_with_dollars_can_be_drawn():
    frame = rows(400)
    predicted = np.where(np.random.default_rng(1).random(3000) < 0.8, frame["label"], LABELS[0])
    table = breakdown(frame, predicted).assign(variant="teacher")
    by_source = drawn(f1_by_group(table, ["teacher"], "source"))
    assert "$T0$$" in by_source and OTHERS in by_source
    by_class = drawn(f1_by_group(table, ["teacher"], "class"))
    assert f"the {MOST_GROUPS} largest of 77" in by_class
    matrix = confusion_matrices(pd.DataFrame({"id": "1", "label": frame["label"], "teacher": predicted}), LABELS)
    kept = frame["label"].value_counts()
    text = drawn(matrix)
    assert OTHERS in text and text.count("intent number") == 2 * MOST_GROUPS
    shown = [label.get_text() for label in matrix.axes[0].get_yticklabels()]
    cells = np.array([int(cell.get_text()) for cell in matrix.axes[0].texts]).reshape(len(shown), len(shown))
    assert cells.sum() == 3000 and cells[:-1].sum(axis=1).tolist() == kept[shown[:-1]].tolist()


def test_labels_without_rows_keep_their_place_where_there_are_few():
    predictions = pd.DataFrame({"id": ["1", "2"], "label": ["None", "NA"], "teacher": ["None", "null"]})
    (axes,) = confusion_matrices(predictions, ["None", "NA", "null"]).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["None", "NA", "null"]
    assert [int(text.get_text()) for text in axes.texts] == [1, 0, 0, 0, 0, 1, 0, 0, 0]


def test_the_page_lists_the_largest_sources():
    counts = {f"s{number}": number for number in range(30)}
    listed = largest_counts(counts)
    assert list(listed)[:2] == ["s29", "s28"] and listed["10 others"] == sum(range(10))
    assert largest_counts({"a": 1}) == {"a": 1}


def test_intervals_of_many_labels_take_seconds():
    frame = rows(10)
    labels = frame["label"].to_numpy()
    generator = np.random.default_rng(2)
    said, other = (np.where(generator.random(3000) < 0.8, labels, generator.permutation(labels)) for _ in range(2))
    start = time.process_time()
    found = bootstrap_intervals(labels, said, other, 10_000, 0)
    assert time.process_time() - start < 30
    assert found["macro_f1_change"]["value"] == pytest.approx(macro_f1(labels, said) - macro_f1(labels, other))
    assert found["macro_f1_ci"]["low"] < macro_f1(labels, said) < found["macro_f1_ci"]["high"]
