"""The tables of results, the documents that show them, and the Pareto front, from records alone."""

import re
import shutil
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from fincompress.cli.main import app
from fincompress.core.errors import InputError
from fincompress.core.files import read_json, write_json
from fincompress.core.params import checked_params
from fincompress.report.documents import BLOCKS, MARKER, insert, report
from fincompress.report.headline import (
    HEADLINE,
    HEADLINE_ROWS,
    headline_variants,
    ladder,
    ladder_variants,
    summary,
)
from fincompress.report.results import (
    Results,
    cost_per_million,
    load_metrics,
    load_results,
    matching_spread,
    pareto_front,
    ties_with,
)
from fincompress.report.tables import (
    by_source,
    change,
    change_over_seeds,
    default_int8,
    points,
    ratio,
    spread,
    ties,
)

DOCUMENTS = {
    "README.md": ROOT,
    "docs/results.md": ROOT,
    "recipes/distilbert-agnews/README.md": ROOT / "recipes/distilbert-agnews",
}
"""Documents with result markers -> the folder of the run that they show."""

pairs_of_cost_and_score = st.lists(st.tuples(st.integers(1, 6), st.integers(0, 6)), min_size=1, max_size=8)


@given(pairs_of_cost_and_score)
def test_the_front_is_what_no_other_beats_on_validation(pairs):
    records = {
        str(i): {"latency_ms": {"p50": ms}, "val_macro_f1": f1, "macro_f1": -f1} for i, (ms, f1) in enumerate(pairs)
    }

    def beaten(ms: int, f1: int) -> bool:
        return any(m <= ms and f >= f1 and (m, f) != (ms, f1) for m, f in pairs)

    assert {pairs[int(name)] for name in pareto_front(records)} == {pair for pair in pairs if not beaten(*pair)}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_documents_show_the_committed_metrics(document):
    text = (ROOT / document).read_text(encoding="utf-8")
    assert text == insert(text, make_results(DOCUMENTS[document])), "run `make results`"


def test_every_block_is_shown_in_a_document_and_every_document_with_blocks_is_checked():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("recipes/*/*.md")]
    shown = {str(page.relative_to(ROOT)): MARKER.findall(page.read_text(encoding="utf-8")) for page in pages}
    assert {name for name, blocks in shown.items() if blocks} == DOCUMENTS.keys()
    assert {block for blocks in shown.values() for block in blocks} == {*BLOCKS, "end"}


def test_the_short_table_has_the_reference_the_floor_and_each_network_in_its_fastest_form():
    results = make_results()
    shown = headline_variants(results.records)
    assert shown[0] == "teacher" and "bag_of_words" in shown and "qat" in shown
    assert shown == [name for name in results.records if name in shown], "in the order of the full tables"
    fastest = []
    for network in ("kd", "ikd", "prune30", "prune50", "tiny"):
        forms = [name for name in (network, f"{network}_ov_int8", f"{network}_ort_int8") if name in results.records]
        fastest.append(min(forms, key=lambda name: results.records[name]["latency_ms"]["p50"]))
    (left_out,) = set(fastest) - set(shown)  # one more than there is room for
    rest = [name for name in fastest if name in shown and name not in pareto_front(results.records)]
    assert all(results.records[left_out]["val_macro_f1"] <= results.records[name]["val_macro_f1"] for name in rest)
    assert len(shown) == HEADLINE_ROWS and 1 + len(HEADLINE) <= 7


def test_of_too_many_networks_the_short_table_keeps_the_pareto_front_then_the_best_on_validation(monkeypatch):
    def record(ms: float, test: float, val: float) -> dict:
        return {"latency_ms": {"p50": ms}, "macro_f1": test, "val_macro_f1": val}

    records = {"teacher": record(9, 0.8, 0.8), "bag_of_words": record(0.1, 0.2, 0.1), "kd": record(3, 0.2, 0.5)}
    records |= {"ikd": record(5, 0.9, 0.4), "prune30": record(6, 0.6, 0.3), "qat": record(7, 0.7, 0.45)}
    assert set(headline_variants(records)) == records.keys()
    monkeypatch.setattr("fincompress.report.headline.HEADLINE_ROWS", 5)
    assert headline_variants(records) == ["teacher", "bag_of_words", "kd", "ikd", "qat"]
    del records["bag_of_words"]
    assert headline_variants(records) == ["teacher", "kd", "ikd", "prune30", "qat"]


def test_the_summary_is_all_about_the_fastest_variant_within_the_margin():
    text = summary(make_results())
    best = re.match(r"`(\w+)` is the fastest variant that loses at most 1 point of macro F1 to `teacher`", text)[1]
    records = make_results().records
    own, whole = records[best], records["teacher"]
    allowed = [name for name, record in records.items() if record["val_macro_f1"] >= whole["val_macro_f1"] - 0.01]
    assert best == min(allowed, key=lambda name: records[name]["latency_ms"]["p50"])
    for figure in (
        f"{whole['size_mb'] / own['size_mb']:.1f} times less",
        f"{own['throughput_per_s']:,.0f} sentences a second",
        f"macro F1 is {own['macro_f1']:.3f}, a change of {change(own['macro_f1_change'])} points",
        f"{ratio(own['speedup']).replace('×', '')} times as fast",
    ):
        assert figure in text
    assert "Over" not in summary(make_results(spread={}))
    over = {"macro_f1": {"values": [0.8] * 5, "change": {"value": -0.012, "low": -0.02, "high": -0.004}}}
    assert "Over 5 seeds the change is -1.2 [-2.0, -0.4] points" in summary(make_results(spread={best: over}))
    assert summary(make_results(best="teacher")).startswith("No variant is faster than `teacher`")


STEPS = {
    "teacher": (0.80, 90.0, 1.0),
    "teacher_ort_fp32": (0.80, 90.0, 2.0),
    "teacher_ort_int8": (0.81, 22.5, 4.0),
    "kd_ort_int8": (0.78, 18.0, 8.0),
    "kd": (0.79, 72.0, 1.6),
    "qat": (0.77, 18.0, 6.0),
}
"""Variant -> macro F1, size, speed-up."""


def with_steps(best: str, *absent: str) -> Results:
    records = {
        name: {"macro_f1": f1, "size_mb": size, "latency_ms": {"p50": 10 / speed}, "speedup": {"value": speed}}
        for name, (f1, size, speed) in STEPS.items()
        if name not in absent
    }
    return make_results(records=records, best=best)


def test_the_ladder_says_what_each_step_adds_and_which_brings_most():
    table, sentence = ladder(with_steps("kd_ort_int8")).split("\n\n")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    assert rows == [
        ["`teacher`: fp32 in PyTorch", "0.800", "90.0", "10.0", *"–––––"],
        ["`teacher_ort_fp32`: in ONNX Runtime", "0.800", "90.0", "5.00", "1.00", "2.00", "+0.0", "1.0", "2.0"],
        ["`teacher_ort_int8`: in int8", "0.810", "22.5", "2.50", "4.00", "2.00", "+1.0", "4.0", "4.0"],
        ["`kd_ort_int8`: the network of `kd`", "0.780", "18.0", "1.25", "1.25", "2.00", "-3.0", "5.0", "8.0"],
    ]
    # log 4 / log 5 = 86 %, and three steps of a factor 2
    assert "size, 0 % by `teacher_ort_fp32`, 86 % by `teacher_ort_int8`, 14 % by `kd_ort_int8`;" in sentence
    assert "speed, 33 % by `teacher_ort_fp32`, 33 % by `teacher_ort_int8`, 33 % by `kd_ort_int8`." in sentence


def test_the_ladder_has_the_steps_that_there_are():
    assert list(ladder_variants(with_steps("kd"))) == ["teacher", "kd"]
    assert "What each step brings" not in ladder(with_steps("kd"))
    alone = with_steps("teacher_ort_int8", "kd_ort_int8")
    assert list(ladder_variants(alone)) == ["teacher", "teacher_ort_fp32", "teacher_ort_int8"]
    assert list(ladder_variants(with_steps("qat"))) == ["teacher", "qat"], "OpenVINO's teacher was not measured"
    missing = with_steps("kd_ort_int8", "teacher_ort_fp32")
    assert list(ladder_variants(missing)) == ["teacher", "teacher_ort_int8", "kd_ort_int8"]
    assert ladder(with_steps("teacher")).count("\n") == 2


def test_the_ladder_goes_on_to_the_smallest_variant_of_the_same_runtime(monkeypatch):
    monkeypatch.setitem(STEPS, "tiny_ort_int8", (0.76, 4.5, 12.0))
    monkeypatch.setitem(STEPS, "tiny_ov_int8", (0.76, 4.0, 10.0))
    results = with_steps("kd_ort_int8")
    assert list(ladder_variants(results))[-2:] == ["kd_ort_int8", "tiny_ort_int8"]
    row = ladder(results).split("\n\n")[0].splitlines()[-1]
    assert row.startswith("| `tiny_ort_int8`: the network of `tiny`, the smallest | 0.760 | 4.5 |")
    assert row.endswith("| 4.00 | 1.50 | -2.0 | 20.0 | 12.0 |")
    assert list(ladder_variants(with_steps("kd"))) == ["teacher", "kd"], "nothing in int8 follows on fp32 in PyTorch"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0123, "+1.2"), (-0.0004, "-0.04"), (0.0003, "+0.03"), (-0.00049, "-0.05"), (0.0, "+0.0"), (-0.0006, "-0.1")],
)
def test_a_difference_that_would_show_as_zero_keeps_a_second_digit(value, text):
    assert points(value) == text
    assert change({"value": value, "low": -0.03, "high": 0.0004}) == f"{text} [-3.0, +0.04]"


def test_the_reference_is_not_compared_with_itself():
    lines = [line for line in report(make_results()).splitlines() if line.startswith("| `teacher` |")]
    costs, behaviour = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines[:2])
    assert costs[3] == costs[8] == "–" and behaviour[1] == "–"


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
    assert "it is as fast as OpenVINO, at +0.010" in default_int8(int8_records(kd=(4.1, 4)))
    assert "+0.000" in default_int8(
        {
            name: {**record, "val_macro_f1": 0.7 - ("ort" in name) / 1e5}
            for name, record in int8_records(kd=(8, 2)).items()
        }
    )
    assert default_int8({"teacher": {}, "teacher_ov_int8": {}}) is None, "nothing to compare it with"


def make_results(folder: Path = ROOT, **changes) -> Results:
    """The committed results of a pipeline, with some of their parts replaced."""
    found = load_results(folder / "metrics", folder / "plots/tables", checked_params(folder / "params.yaml").report)
    return replace(found, **changes)


BREAKDOWN = pd.DataFrame(
    [
        ("teacher", "class", "positive", 6, 0.5),
        ("teacher", "source", "fiqa", 4, 0.25),
        ("teacher", "source", "phrasebank", 8, 0.75),
    ],
    columns=["variant", "group", "value", "rows", "f1"],
)
RECORDS = {"teacher": {"macro_f1": 0.625}}
ABOUT = {"teacher": {"checkpoint": "a/b"}, "contamination": {}, "published": None}


def test_scores_by_source_show_what_had_been_seen_and_the_checkpoint_as_published():
    published = {"macro_f1": 0.5, "macro_f1_by_source": {"fiqa": 0.125, "phrasebank": 0.875}}
    about = {**ABOUT, "contamination": {"phrasebank": "`a/b` had seen its rows before: why"}, "published": published}
    table, note = by_source(make_results(records=RECORDS, models=about, breakdown=BREAKDOWN))
    assert table.splitlines() == [
        "| macro F1 | test | fiqa, 4 rows | phrasebank (seen before), 8 rows |",
        "|---|--:|--:|--:|",
        "| `a/b` as published | 0.500 | 0.125 | 0.875 |",
        "| `teacher` | 0.625 | 0.250 | 0.750 |",
    ]
    assert note == "**Contaminated**: phrasebank. `a/b` had seen its rows before: why."


def test_scores_by_source_show_sets_out_of_domain_and_are_left_out_where_there_is_nothing_to_say():
    assert by_source(make_results(records=RECORDS, models=ABOUT, breakdown=BREAKDOWN)) == []
    further = pd.DataFrame([("teacher", "extra", "tweets", 2, 1.0)], columns=BREAKDOWN.columns)
    (shown,) = by_source(make_results(records=RECORDS, models=ABOUT, breakdown=pd.concat([BREAKDOWN, further])))
    assert "| fiqa, 4 rows | phrasebank, 8 rows | tweets (out of domain), 2 rows |" in shown
    assert "| 0.250 | 0.750 | 1.000 |" in shown and "as published" not in shown


def test_a_spread_over_seeds_is_shown_only_with_the_run_that_it_is_of():
    record = {"macro_f1": 0.5, "val_macro_f1": 0.6}
    scores = {"val_macro_f1": {"mean": 0.61, "std": 0.02, "values": [0.6, 0.62]}}
    scores["macro_f1"] = {"mean": 0.45, "std": 0.07, "values": [0.5, 0.4]}
    scores["macro_f1"]["change"] = {"value": -0.02, "low": -0.05, "high": 0.01}
    content = {"seeds": [42, 43], "variants": {"kd": scores}}
    found = matching_spread(content, {"kd": record, "bag_of_words": record})
    assert spread(make_results(spread=found), "kd", "macro_f1") == "0.450 ± 0.070"
    assert change_over_seeds(make_results(spread=found), "kd") == "-2.0 [-5.0, +1.0]"
    results = make_results(spread=found)
    assert spread(results, "bag_of_words", "macro_f1") == change_over_seeds(results, "teacher") == "–"
    assert matching_spread(content, {"kd": {**record, "macro_f1": 0.51}}) == matching_spread({}, {"kd": record}) == {}


def test_a_million_sentences_cost_what_the_threads_take_for_them():
    # 250 sentences a second on 4 cores: 4000 s, 16000 core-seconds, 4.44 core-hours
    assert cost_per_million({"throughput_per_s": 250}, {"threads": 4}, 0.09) == pytest.approx(0.4)


def test_latencies_too_close_to_tell_are_named():
    assert ties(make_results(best="a", ties=["b", "c"])) == (
        "Too close to the latency of `a` at real lengths for the rounds to tell apart: `b`, `c`."
    )
    assert ties(make_results(best="a", ties=[])).endswith("latency of `a` at real lengths from all others.")
    assert ties(make_results(best="a", ties=None)).startswith("The rounds are too few to tell latencies apart")


def test_too_few_rounds_for_so_many_variants_are_told_from_ties():
    """Six rounds can tell one other variant (p = 0.031), but not two after correction; seven can (p = 0.016)."""

    def rounds(count: int, others: str) -> pd.DataFrame:
        medians = {"a": 1.0, **dict.fromkeys(others, 2.0)}
        rows = [(name, "real", number, ms) for name, ms in medians.items() for number in range(count)]
        return pd.DataFrame(rows, columns=["variant", "protocol", "round", "p50_ms"])

    assert ties_with("a", rounds(6, "b")) == [] and ties_with("a", rounds(6, "bc")) is None
    assert ties_with("a", rounds(7, "bc")) == [] and ties_with("a", rounds(1, "")) == []


def test_only_what_is_between_markers_changes():
    results = make_results()
    empty = "before\n<!-- results: {} -->\nold\n<!-- results: end -->\nbetween\n" * 2 + "after"
    filled = insert(empty.format("headline", "notes"), results)
    assert re.sub(r"(headline|notes) -->.*?<!--", r"\1 -->\nold\n<!--", filled, flags=re.DOTALL) == empty.format(
        "headline", "notes"
    )
    assert BLOCKS["headline"](results) in filled and ties(results) in filled and "old" not in filled
    assert insert(filled, results) == filled
    assert report(results) == "\n\n".join(BLOCKS[name](results) for name in ("ladder", "costs", "behaviour", "notes"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "nothing here but `<!-- results: costs -->` within a line",
            "README.md: no result markers; put `<!-- results: NAME -->`",
        ),
        (
            "<!-- results: end -->",
            "README.md: `<!-- results: end -->` does not begin a block; expected one of summary,",
        ),
        ("<!-- results: haedline -->\n<!-- results: end -->", "`<!-- results: haedline -->` does not begin a block"),
        (
            "<!-- results: costs -->\ntext",
            "README.md: `<!-- results: costs -->` has no `<!-- results: end -->` after it",
        ),
        (
            "<!-- results: costs -->\n<!-- results: notes -->",
            "`<!-- results: costs -->` has no `<!-- results: end -->`",
        ),
    ],
)
def test_wrong_markers_are_named_and_leave_the_document_as_it_is(tmp_path, monkeypatch, text, message):
    monkeypatch.chdir(ROOT)
    document = tmp_path / "README.md"
    document.write_text(text)
    with pytest.raises(InputError, match=re.escape(message)):
        insert(text, make_results(), "README.md")
    result = CliRunner().invoke(app, ["results", "--write", str(document)])
    assert isinstance(result.exception, InputError) and str(document) in str(result.exception)
    assert document.read_text() == text


def test_the_command_writes_into_a_document_and_names_one_that_is_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    document = tmp_path / "page.md"
    missing = CliRunner().invoke(app, ["results", "--write", str(document)])
    assert isinstance(missing.exception, InputError) and "page.md: not found" in str(missing.exception)
    document.write_text("<!-- results: headline -->\n<!-- results: end -->\n")
    assert CliRunner().invoke(app, ["results", "--write", str(document)]).exit_code == 0
    assert BLOCKS["headline"](make_results()) in document.read_text()


def test_missing_metrics_say_what_writes_them(tmp_path):
    with pytest.raises(InputError, match="dvc repro benchmark"):
        load_metrics(tmp_path)


def test_what_is_missing_of_a_run_is_named_with_what_writes_it(tmp_path):
    params = checked_params(ROOT / "params.yaml").report
    metrics, tables = tmp_path / "metrics", tmp_path / "tables"
    shutil.copytree(ROOT / "metrics", metrics)
    with pytest.raises(InputError, match=r"breakdown\.csv: missing or empty; `dvc repro benchmark` writes it"):
        load_results(metrics, tables, params)
    shutil.copytree(ROOT / "plots/tables", tables)
    assert load_results(metrics, tables, params).records
    record = read_json(metrics / "variants/kd.json")
    write_json(
        metrics / "variants/kd.json", {key: value for key, value in record.items() if key not in ("ece", "flips")}
    )
    with pytest.raises(InputError, match=r"kd\.json: no ece, flips; `dvc repro benchmark` writes it anew"):
        load_results(metrics, tables, params)
    write_json(metrics / "variants/kd.json", record)
    write_json(metrics / "variants/gone.json", record)
    with pytest.raises(InputError, match=r"gone\.json: of a variant that the last benchmark did not measure; delete"):
        load_results(metrics, tables, params)
    (metrics / "variants/gone.json").unlink()
    (metrics / "about/models.json").unlink()
    with pytest.raises(InputError, match=r"models\.json: not found"):
        load_results(metrics, tables, params)
