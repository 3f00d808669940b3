"""The results table and the Pareto front, from records alone."""

import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st

from fincompress.errors import InputError
from fincompress.results import BEGIN, END, default_int8, insert, load_metrics, pareto_front, report

points = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=8)


@given(points)
def test_the_front_is_what_no_other_beats(pairs):
    records = {str(i): {"latency_ms": {"p50": ms}, "macro_f1": f1} for i, (ms, f1) in enumerate(pairs)}

    def beaten(ms: int, f1: int) -> bool:
        return any(m <= ms and f >= f1 and (m, f) != (ms, f1) for m, f in pairs)

    assert {pairs[int(name)] for name in pareto_front(records)} == {pair for pair in pairs if not beaten(*pair)}


def test_the_readme_shows_the_committed_metrics():
    document = (ROOT / "README.md").read_text(encoding="utf-8")
    assert document == insert(document, report(load_metrics(ROOT / "metrics"))), "run `make results`"


def int8_records(**latencies: tuple[float, float]) -> dict[str, dict]:
    """Records of networks in both int8 runtimes, from (OpenVINO ms, ONNX Runtime ms)."""
    return {name: {} for name in latencies} | {
        f"{name}_{key}_int8": {"latency_ms": {"p50": ms}, "val_macro_f1": 0.7 + (key == "ort") / 100}
        for name, pair in latencies.items()
        for key, ms in zip(("ov", "ort"), pair, strict=True)
    }


def test_the_default_int8_runtime_is_the_faster_one_at_real_lengths():
    assert default_int8(int8_records(kd=(8, 2), teacher=(4, 4))) == (
        "Int8 ships in **ONNX Runtime** by default: at real sentence lengths it is faster than OpenVINO for 1 of 2 "
        "networks, 2.0 times on average, at +0.010 validation macro F1."
    )
    assert "**OpenVINO** by default" in (sentence := default_int8(int8_records(kd=(1, 2)))) and "-0.010" in sentence
    with pytest.raises(InputError, match="dvc repro"):
        default_int8({"teacher": {}, "teacher_ov_int8": {}})


def test_only_what_is_between_the_markers_changes():
    assert insert(f"before\n{BEGIN}\nold\n{END}\nafter", "new") == f"before\n{BEGIN}\nnew\n{END}\nafter"


def test_a_document_without_markers_is_an_error():
    with pytest.raises(InputError, match="results: begin"):
        insert("nothing here", "table")


def test_missing_metrics_say_what_writes_them(tmp_path):
    with pytest.raises(InputError, match="dvc repro benchmark"):
        load_metrics(tmp_path)
