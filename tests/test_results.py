"""The results table and the Pareto front, from records alone."""

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from fincompress.errors import InputError
from fincompress.results import BEGIN, END, insert, load_metrics, markdown_table, pareto_front

points = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=8)


@given(points)
def test_the_front_is_what_no_other_beats(pairs):
    records = {str(i): {"latency_ms": {"p50": ms}, "macro_f1": f1} for i, (ms, f1) in enumerate(pairs)}

    def beaten(ms: int, f1: int) -> bool:
        return any(m <= ms and f >= f1 and (m, f) != (ms, f1) for m, f in pairs)

    assert {pairs[int(name)] for name in pareto_front(records)} == {pair for pair in pairs if not beaten(*pair)}


def test_the_readme_shows_the_committed_metrics():
    document = (ROOT / "README.md").read_text(encoding="utf-8")
    assert document == insert(document, markdown_table(load_metrics(ROOT / "metrics"))), "run `make results`"


def test_only_what_is_between_the_markers_changes():
    assert insert(f"before\n{BEGIN}\nold\n{END}\nafter", "new") == f"before\n{BEGIN}\nnew\n{END}\nafter"


def test_a_document_without_markers_is_an_error():
    with pytest.raises(InputError, match="results: begin"):
        insert("nothing here", "table")


def test_missing_metrics_say_what_writes_them(tmp_path):
    with pytest.raises(InputError, match="dvc repro benchmark"):
        load_metrics(tmp_path)
