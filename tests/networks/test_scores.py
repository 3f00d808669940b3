"""Scores against brute force."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fincompress.networks.scores import breakdown, macro_f1, scores

pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


def brute_force_f1(labels, predictions, name) -> float:
    both = sum(label == name == predicted for label, predicted in zip(labels, predictions, strict=True))
    either = sum(
        int(label == name) + int(predicted == name) for label, predicted in zip(labels, predictions, strict=True)
    )
    return 2 * both / either if either else 0.0


@given(pairs)
def test_macro_f1_and_accuracy_equal_brute_force(rows):
    labels, predictions = map(np.array, zip(*rows, strict=True))
    expected = np.mean([brute_force_f1(labels, predictions, name) for name in set(labels.tolist())])
    result = scores(labels, predictions)
    assert result["macro_f1"] == pytest.approx(expected)
    assert result["accuracy"] == pytest.approx(np.mean(labels == predictions))


def test_macro_f1_of_ids_and_names_is_the_same():
    labels, predictions = np.array([0, 1, 2, 2]), np.array([0, 2, 2, 1])
    names = np.array(["a", "b", "c"])
    assert macro_f1(labels, predictions) == macro_f1(names[labels], names[predictions])


def test_breakdown_scores_each_class_source_and_phenomenon():
    frame = pd.DataFrame(
        {
            "label": ["up", "up", "down", "down"],
            "source": ["web", "web", "wire", "wire"],
            "phenomenon": ["plain", "", "plain", ""],
        }
    )
    predicted = np.array(["up", "down", "down", "down"])
    table = breakdown(frame, predicted).set_index(["group", "value"])
    assert table.loc[("class", "up"), "f1"] == pytest.approx(2 / 3)
    assert table.loc[("source", "wire"), ["rows", "f1", "accuracy"]].tolist() == [2, 1, 1]
    assert table.loc[("phenomenon", "plain"), "accuracy"] == 1
    assert ("phenomenon", "") not in table.index
