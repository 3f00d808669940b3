"""`fincompress select` on hand-made metrics: the best within a budget, ties, and budgets that nothing meets."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fincompress.cli.main import app, main
from fincompress.core.errors import InputError
from fincompress.report.selection import budget, select


def record(f1: float, ms: float, mb: float, rss: float = 100, test_f1: float = 0.5) -> dict:
    times = {"p50": ms, "p95": 2 * ms, "p99": 3 * ms}
    padded = {key: 4 * value for key, value in times.items()}
    speed = {"latency_ms": times, "latency_padded_ms": padded, "peak_rss_mb": rss}
    return {"macro_f1": test_f1, "val_macro_f1": f1, "size_mb": mb, **speed}


RECORDS = {
    "teacher": record(0.90, 20, 90, 600),
    "kd": record(0.89, 10, 70, 500),
    "kd_ort_int8": record(0.88, 3, 20, 150),
    "kd_ov_int8": record(0.88, 3, 22, 300),
    "ikd_ort_int8": record(0.88, 4, 20, 150),
    "bag_of_words": record(0.70, 0.1, 1, 90, test_f1=0.99),  # lucky on test, which must not matter
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "variants").mkdir()
    for name, content in RECORDS.items():
        (tmp_path / "variants" / f"{name}.json").write_text(json.dumps(content))
    return tmp_path


def chosen(**limits) -> str | None:
    return select(RECORDS, budget(RECORDS, **limits)).variant


def test_the_best_macro_f1_within_the_budget_is_chosen():
    assert chosen() == "teacher"
    assert chosen(latency_ms=10) == "kd"
    assert chosen(size_mb=89.9) == "kd"
    assert chosen(memory_mb=120) == "bag_of_words"
    assert chosen(latency_ms=2, f1_drop=1) == "bag_of_words"
    assert chosen(f1_drop=0.01, latency_ms=19) == "kd"  # 0.90 - 0.89 is a little more than 0.01 in floating point


def test_of_equals_the_faster_then_the_smaller_is_chosen_and_the_others_are_named():
    choice = select(RECORDS, budget(RECORDS, latency_ms=5))
    assert choice.within == ["kd_ort_int8", "kd_ov_int8", "ikd_ort_int8", "bag_of_words"]
    assert "kd_ov_int8, ikd_ort_int8 are as good, and slower or larger" in choice.reason
    assert chosen(latency_ms=5, memory_mb=1000) == "kd_ort_int8"


def test_latency_can_be_that_of_the_slow_tail_or_of_padded_texts():
    for latency, percentile, bound, expected in (
        ("latency_ms", "p95", 6, "kd_ort_int8"),
        ("latency_ms", "p95", 5.9, "bag_of_words"),
        ("latency_padded_ms", "p50", 12, "kd_ort_int8"),
        ("latency_padded_ms", "p99", 35, "bag_of_words"),
    ):
        limits = budget(RECORDS, latency_ms=bound, latency=latency, percentile=percentile)
        assert select(RECORDS, limits, latency, percentile).variant == expected


def test_a_limit_that_nothing_meets_is_named_with_the_nearest():
    choice = select(RECORDS, budget(RECORDS, latency_ms=0.01, size_mb=25))
    assert choice.variant is None and choice.ruled_out_by == ["--max-latency-ms"]
    assert choice.reason == "--max-latency-ms 0.01 rules out all: the fastest, bag_of_words, is at 0.1 ms."
    both = select(RECORDS, budget(RECORDS, latency_ms=0.01, f1_drop=-0.1))
    assert both.ruled_out_by == ["--max-latency-ms", "--max-f1-drop"]


def test_limits_that_nothing_meets_together_say_what_each_costs():
    choice = select(RECORDS, budget(RECORDS, latency_ms=2, f1_drop=0.015))
    assert choice.variant is None and choice.ruled_out_by == []
    assert choice.without == {"--max-latency-ms": "teacher", "--max-f1-drop": "bag_of_words"}
    assert "Without --max-f1-drop 0.015 it would be bag_of_words (0.2 macro F1 lost)" in choice.reason


values = st.integers(1, 4)


@given(st.lists(st.tuples(values, values, values), min_size=1, max_size=6), values, values)
def test_nothing_within_the_budget_is_better_than_the_choice(numbers, ms, mb):
    records = {f"v{index}": record(*row) for index, row in enumerate(numbers)} | {"teacher": record(2, 4, 4)}
    within = {name: r for name, r in records.items() if r["latency_ms"]["p50"] <= ms and r["size_mb"] <= mb}
    choice = select(records, budget(records, latency_ms=ms, size_mb=mb))
    assert set(choice.within) == set(within) and (choice.variant is None) == (not within)
    if within:
        assert records[choice.variant]["val_macro_f1"] == max(r["val_macro_f1"] for r in within.values())


def test_the_command_prints_what_scripts_and_people_read(folder):
    run = CliRunner().invoke(app, ["select", "--metrics", str(folder), "--max-latency-ms", "5", "--json"])
    answer = json.loads(run.stdout)
    assert run.exit_code == 0 and answer["variant"] == "kd_ort_int8" and answer["path"] == "models/ptq/kd_ort_int8"
    assert answer["metrics"] == RECORDS["kd_ort_int8"]
    run = CliRunner().invoke(app, ["select", "--metrics", str(folder), "--max-latency-ms", "5"])
    assert run.stdout.splitlines()[0].startswith("kd_ort_int8: 3 ms, 20 MB, macro F1 0.880 on validation")
    assert run.stdout.splitlines()[-1] == "models/ptq/kd_ort_int8"
    run = CliRunner().invoke(app, ["select", "--metrics", str(folder), "--max-size-mb", "0.5", "--json"])
    answer = json.loads(run.stdout)
    assert run.exit_code == 1 and answer["variant"] is answer["path"] is answer["metrics"] is None
    assert answer["ruled_out_by"] == ["--max-size-mb"]


def test_what_cannot_be_compared_is_one_clear_error(folder, monkeypatch, capsys):
    with pytest.raises(InputError, match="--max-size-mb nan: not a number"):
        budget(RECORDS, size_mb=float("nan"))
    broken = {**RECORDS, "kd": {key: value for key, value in RECORDS["kd"].items() if key != "size_mb"}}
    with pytest.raises(InputError, match=r"metrics/variants/kd\.json: no number under `size_mb`"):
        select(broken, [])
    (folder / "variants/kd.json").write_text('{"macro_f1": 0.5')
    monkeypatch.setattr("sys.argv", ["fincompress", "select", "--metrics", str(folder)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2 and "kd.json: not valid JSON" in capsys.readouterr().err
