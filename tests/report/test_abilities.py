"""What the best variant is good at, in documents and cards: hand-made groups of test rows."""

import pandas as pd
from test_results import make_results

from fincompress.report.cards import _groups
from fincompress.report.groups import abilities, by_group


def results():
    rows = [("plain", 40, 0.95), ("factual", 60, 0.90), ("hedged", 20, 0.65), ("mixed", 10, 0.5), ("rare", 9, 0.1)]
    table = [
        (name, "phenomenon", value, count, accuracy - loss)
        for name, loss in (("teacher", 0), ("kd_ort_int8", 0.05), ("bag_of_words", 0.1))
        for value, count, accuracy in rows
    ]
    table.append(("kd_ort_int8", "source", "post", 30, 0.7))
    return make_results(
        best="kd_ort_int8",
        records={"teacher": {}, "kd_ort_int8": {}, "bag_of_words": {}},
        breakdown=pd.DataFrame(table, columns=["variant", "group", "value", "rows", "accuracy"]),
    )


def test_the_table_of_groups_has_the_easiest_first_beside_reference_and_floor():
    assert by_group(results(), "phenomenon").splitlines()[:4] == [
        "| phenomenon | test rows | `teacher` | `kd_ort_int8` | `bag_of_words` |",
        "|---|--:|--:|--:|--:|",
        "| `plain` | 40 | 0.95 | 0.90 | 0.85 |",
        "| `factual` | 60 | 0.90 | 0.85 | 0.80 |",
    ]


def test_a_sentence_names_what_the_best_variant_finds_easy_and_what_hard():
    said = abilities(results())
    assert (
        "`kd_ort_int8` gets right 90 % of `plain`, 85 % of `factual`, but only 45 % of `mixed`, 5 % of `rare`" in said
    )


def test_a_card_names_the_easiest_and_the_hardest_groups_of_enough_rows():
    groups = _groups(results(), "kd_ort_int8")
    assert [part["value"] for part in groups["easiest"]] == ["plain", "factual", "hedged"]
    assert [part["value"] for part in groups["hardest"]] == ["mixed", "hedged", "factual"], "`rare` has too few rows"
