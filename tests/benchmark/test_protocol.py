"""The measuring protocol, and the record made from what it saw."""

import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import LABELS
from safetensors.numpy import save_file

from fincompress.benchmark import groups, rounds
from fincompress.benchmark import worker as worker_process
from fincompress.benchmark.latency import not_told_from, round_medians
from fincompress.benchmark.machine import Seen, Watch
from fincompress.benchmark.protocol import Measurements, measure
from fincompress.benchmark.records import cost_metrics, parameter_counts, variant_metrics
from fincompress.benchmark.rounds import SLOW, _undisturbed_turn, side_rounds, with_slow_turns
from fincompress.benchmark.worker import SPINNING_SECONDS, time_batches
from fincompress.benchmark.workers import Worker
from fincompress.core.errors import InputError
from fincompress.core.files import write_json
from fincompress.core.sections import BenchmarkParams, EvaluateParams
from fincompress.core.variants import Variant
from fincompress.data.sources import read_embedded
from fincompress.runtimes.bag_of_words import BagOfWords

PARAMS = BenchmarkParams(
    variants="all",
    runs=10,
    warmups=4,
    rounds=3,
    side_rounds=2,
    threads=1,
    padded_length=16,
    batch_size=4,
    lengths=[8, 16],
    batch_sizes=[1, 2],
    cold_starts=2,
    load_threshold=1.0,
    max_repeats=0,
)


@pytest.fixture(scope="module")
def bag(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bag") / "bag_of_words"
    BagOfWords.fit(read_embedded().head(200), LABELS).save(folder)
    return folder


def variant(name: str, folder: Path) -> Variant:
    return Variant(name, name, "bag_of_words", folder)


def test_every_variant_is_timed_on_the_same_sentences_in_every_round_and_aside_in_some(bag):
    texts = {"test": read_embedded()["text"].head(20).tolist()}
    measured = measure([variant("teacher", bag), variant("b", bag)], texts, PARAMS, seed=0)
    counts = measured.samples.groupby(["variant", "protocol", "round"]).size().unstack()
    assert (counts.sum(axis=1) == 10).all() and (counts > 0).all(axis=None)
    times = measured.samples[["ms", "forward_ms", "encode_ms"]]
    assert (times > 0).all(axis=None) and (times["ms"] > times["forward_ms"] + times["encode_ms"]).all()
    assert measured.int8_peak_gops > 1 and set(measured.disturbed_turns()) == {"load", "steal", "swap", "slow"}
    sizes = measured.throughput.groupby(["variant", "batch_size"])["round"].nunique().unstack()
    assert list(sizes.columns) == [1, 2, 4] and (sizes == 2).all(axis=None) and measured.batch_size == 4
    assert (measured.throughput["per_s"] > 0).all()
    lengths = measured.lengths.groupby(["variant", "length"])["round"].nunique().unstack()
    assert lengths.loc["teacher"].to_dict() == lengths.loc["b"].to_dict() == {8: 2, 16: 3}
    padded = measured.samples.query("protocol == 'padded'").groupby("variant")["ms"].apply(list)
    at_16 = measured.lengths.query("length == 16").groupby("variant")["ms"].apply(list)
    assert at_16.to_dict() == padded.to_dict(), "16 is the padded protocol's length"
    assert measured.cold_starts["variant"].value_counts().to_dict() == {"teacher": 2, "b": 2} and measured.groups == 1
    assert measured.cold_starts["s"].between(0.05, 60).all()  # a Python process with its imports
    np.testing.assert_array_equal(measured.logits["teacher"]["test"], measured.logits["b"]["test"])
    assert measured.logits["b"]["test"].shape == (20, 3) and measured.labels["b"] == LABELS
    assert all(peak > 20 for peak in measured.peak_rss_mb.values())


@pytest.mark.parametrize(("rounds", "aside", "numbers"), [(10, 2, {2, 7}), (3, 3, {0, 1, 2}), (1, 1, {0}), (7, 1, {3})])
def test_side_rounds_are_spread_over_the_run(rounds, aside, numbers):
    assert side_rounds(PARAMS.model_copy(update={"rounds": rounds, "side_rounds": aside})) == numbers


QUIET, BUSY = Seen(0.0, 0.0, 0), Seen(0.5, 0.0, 0)


def turn(ms: float) -> tuple:
    return (pd.DataFrame({"protocol": ["real", "padded"], "ms": [ms, 99.0]}),)


@pytest.mark.parametrize(
    ("seen", "times", "max_repeats", "left", "cause", "repeated"),
    [
        ([QUIET], [2.0], 2, 9, "", 0),
        ([BUSY, QUIET], [2.0, 2.0], 2, 9, "", 1),
        ([BUSY, BUSY, BUSY], [2.0] * 3, 2, 9, "load", 2),
        ([BUSY, BUSY], [2.0] * 2, 2, 1, "load", 1),
        ([BUSY], [2.0], 2, 0, "load", 0),
        ([Seen(0.0, 0.5, 0), Seen(0.0, 0.0, 4096), QUIET], [2.0] * 3, 2, 9, "", 2),
        ([QUIET, QUIET], [2.0 * SLOW + 0.1, 2.0], 2, 9, "", 1),
        ([QUIET], [2.0 * SLOW + 0.1], 0, 9, "slow", 0),
        ([QUIET], [0.1], 2, 9, "", 0),
    ],
)
def test_a_disturbed_turn_is_repeated_within_two_bounds(monkeypatch, seen, times, max_repeats, left, cause, repeated):
    seen, turns = list(seen), [turn(ms) for ms in times]
    monkeypatch.setattr(rounds, "_turn", lambda *_: turns.pop(0))
    monkeypatch.setattr(rounds, "Watch", lambda pid: SimpleNamespace(seen=lambda: seen.pop(0)))
    monkeypatch.setattr(rounds, "SETTLE_SECONDS", 0)
    worker = SimpleNamespace(process=SimpleNamespace(pid=1))
    params = PARAMS.model_copy(update={"max_repeats": max_repeats, "load_threshold": 0.1})
    kept, found, count = _undisturbed_turn(worker, [], None, params, [1.9, 2.0, 2.1], left)
    assert (found, count) == (cause, repeated) and kept[0]["ms"].iloc[0] == times[-1]
    assert not seen and not turns


@pytest.mark.parametrize(
    ("seen", "cause"),
    [
        (Seen(0.1, 0.1, 0), ""),
        (Seen(0.11, 0.0, 0), "load"),
        (Seen(0.0, 0.11, 0), "steal"),
        (Seen(0.9, 0.9, 1), "swap"),
    ],
)
def test_what_disturbs_is_named(seen, cause):
    assert seen.cause(threshold=0.1) == cause


def test_a_turn_that_was_slow_beside_all_others_is_flagged_in_the_end():
    """The first turn of `a` has no earlier one to be compared with; `b` drifts by less than the factor."""
    medians = {"a": [3.0, 2.0, 2.0, 2.1], "b": [1.0, 1.1, 1.2, 1.3]}
    table = pd.DataFrame(
        [
            {"variant": name, "round": 10 + number, "protocol": protocol, "ms": ms, "cause": ""}
            for name, row in medians.items()
            for number, ms in enumerate(row)
            for protocol in ("real", "padded")
        ]
    )
    flagged = with_slow_turns(table, 10, medians)
    assert flagged[flagged["cause"] == "slow"][["variant", "round"]].drop_duplicates().to_numpy().tolist() == [
        ["a", 10]
    ]
    assert (table["cause"] == "").all(), "the argument stays as it was"
    few = with_slow_turns(table, 10, {"a": [3.0, 1.0, 1.0]})
    assert (few["cause"] == "").all(), "two others are too few to call a turn slow"


def test_variants_that_do_not_fit_at_once_are_measured_in_groups_with_the_reference_in_each(bag, monkeypatch, capsys):
    variants = [variant(name, bag) for name in ("teacher", "kd", "ikd")]
    params = PARAMS.model_copy(update={"cold_starts": 0})
    alone = measure(variants[:1], {"test": ["a text"]}, params, seed=0).peak_rss_mb["teacher"]
    room = 2.6 * alone * groups.GROWTH / (1 - groups.SPARED)  # for two
    monkeypatch.setattr(groups, "available_memory_mb", lambda: room)
    measured = measure(variants, {"test": ["a text", "another", "and a third"]}, params, seed=0)
    assert measured.groups == 2
    assert "2 groups" in capsys.readouterr().out
    numbers = measured.samples.groupby("variant")["round"].unique().map(set).to_dict()
    assert numbers["teacher"] == set(range(6)) and numbers["kd"] | numbers["ikd"] == numbers["teacher"]
    assert {frozenset(numbers["kd"]), frozenset(numbers["ikd"])} == {frozenset({0, 1, 2}), frozenset({3, 4, 5})}
    assert list(measured.logits) == ["teacher", "kd", "ikd"]
    assert "ikd" in not_told_from(round_medians(measured.samples), "real", "kd"), "they shared no round"


def test_a_variant_is_compared_with_the_reference_of_its_own_rounds(tmp_path):
    """The machine is half as fast in the second group: kd and ikd are both twice as fast as the teacher."""
    rows = [("teacher", 0, 10.0), ("kd", 0, 5.0), ("teacher", 1, 20.0), ("ikd", 1, 10.0)]
    measured = hand_made({"teacher": 1.0, "kd": 1.0, "ikd": 1.0})
    measured.samples = pd.DataFrame(
        [
            {"variant": name, "protocol": protocol, "round": r, "disturbed": False, **timed(ms)}
            for name, r, ms in rows
            for protocol in ("real", "padded")
        ]
    )
    table = cost_metrics([Variant(name, name, "torch", tmp_path) for name in ("teacher", "kd", "ikd")], measured, {}, 0)
    for name in ("kd", "ikd"):
        for key in ("speedup", "speedup_padded", "compression_gain", "compression_gain_padded"):
            assert table[name][key] == {"value": 2, "low": 2, "high": 2}
    assert table["teacher"]["speedup"]["value"] == table["teacher"]["runtime_gain"]["value"] == 1


def timed(ms: float) -> dict[str, float]:
    """What `time_single` says of a text whose tokenising takes a tenth of the time."""
    return {"ms": ms, "forward_ms": 0.9 * ms, "encode_ms": 0.1 * ms}


def test_parameters_are_counted_where_the_network_was_not_measured_itself(tmp_path, bag):
    weights = {"weight": np.zeros((2, 3), dtype=np.float32)}
    for name in ("ikd", "qat"):
        (tmp_path / name).mkdir()
    save_file(weights, tmp_path / "ikd" / "model.safetensors")
    write_json(tmp_path / "qat" / "training.json", {"source": "ikd"})
    chosen = [
        Variant("ikd_ort_int8", "ikd", "onnxruntime", tmp_path / "ptq" / "ikd_ort_int8"),
        Variant("qat", "qat", "openvino", tmp_path / "qat"),
        Variant("bag_of_words", "bag_of_words", "bag_of_words", bag),
    ]
    counts = parameter_counts(chosen, tmp_path)
    assert counts["ikd"] == counts["qat"] == 6 and counts["bag_of_words"] > 100


class Fake:
    """A classifier that says how it was fed."""

    labels = LABELS

    def __init__(self):
        self.batches = []

    def encode(self, texts: list[str], pad_to: int | None = None) -> dict:
        self.batches.append(texts)
        return {"texts": texts}

    def logits(self, inputs: dict) -> np.ndarray:
        return np.zeros((len(inputs["texts"]), len(self.labels)), dtype=np.float32)


def test_throughput_is_timed_once_the_threads_of_earlier_requests_have_come_to_rest():
    class Waking(Fake):
        since = time.perf_counter()

        def logits(self, inputs: dict) -> np.ndarray:
            resting = time.perf_counter() - self.since > SPINNING_SECONDS
            time.sleep(0.001 if resting else 0.02)
            return super().logits(inputs)

    assert time_batches(Waking(), ["first", "last"], 1) > 2 / 0.02


def test_throughput_is_that_of_what_users_call_sorted_by_length_with_tokenising(monkeypatch):
    class Slow(Fake):
        def encode(self, texts: list[str], pad_to: int | None = None) -> dict:
            time.sleep(0.01)
            return super().encode(texts, pad_to)

    monkeypatch.setattr(worker_process, "SPINNING_SECONDS", 0)
    classifier = Slow()
    assert time_batches(classifier, ["long long", "a", "longest of all", "be"], 2) < 4 / 0.02
    assert classifier.batches == [["a", "be"], ["long long", "longest of all"]]


def test_a_worker_that_cannot_load_says_why(tmp_path):
    with pytest.raises(InputError, match=r"broken: .*bag_of_words\.json.*`dvc repro` rebuilds"):
        Worker(variant("broken", tmp_path), threads=1).wait_until_loaded()


def test_a_worker_that_dies_is_named(bag):
    worker = Worker(variant("victim", bag), threads=1)
    worker.wait_until_loaded()
    worker.process.kill()
    with pytest.raises(RuntimeError, match="worker of victim died"):
        worker.ask("labels")
    worker.close()


@pytest.mark.parametrize("loaded", [True, False])
def test_closing_ends_the_process_quietly(bag, capfd, loaded):
    worker = Worker(variant("a", bag), threads=1)
    if loaded:
        worker.wait_until_loaded()
    worker.close()
    assert worker.process.returncode == 0
    assert capfd.readouterr().err == ""


def test_load_of_others_is_what_the_machine_did_beyond_our_own(monkeypatch):
    """Over 2 s on 2 cores: 2.5 s busy, of which the worker took 1.5 and the parent 0.3; 0.7 of 4 are others'."""
    times = namedtuple("times", ["user", "system", "idle", "iowait", "steal"])
    system = iter([times(10, 5, 100, 7, 0), times(11.5, 6, 101, 8, 0.5)])
    own = {
        1: iter([times(1, 1, 0, 0, 0), times(2, 1.5, 0, 0, 0)]),
        2: iter([times(0, 0, 0, 0, 0), times(0.3, 0, 0, 0, 0)]),
    }
    clock = iter([50.0, 52.0])
    monkeypatch.setattr("fincompress.benchmark.machine.psutil.cpu_times", lambda: next(system))
    monkeypatch.setattr("fincompress.benchmark.machine.psutil.cpu_count", lambda: 2)
    monkeypatch.setattr(
        "fincompress.benchmark.machine.psutil.Process",
        lambda pid=2: namedtuple("process", ["cpu_times"])(lambda: next(own[pid])),
    )
    monkeypatch.setattr("fincompress.benchmark.machine.time.perf_counter", lambda: next(clock))
    pages = iter([SimpleNamespace(sin=4096, sout=0), SimpleNamespace(sin=4096, sout=8192)])
    monkeypatch.setattr("fincompress.benchmark.machine.psutil.swap_memory", lambda: next(pages))
    seen = Watch(1).seen()
    assert (seen.load, seen.steal, seen.swap) == pytest.approx((0.7 / 4, 0.5 / 4, 8192))


def hand_made(medians: dict[str, float]) -> Measurements:
    """Measurements in which every variant's padded latency is given and its real one half of that."""
    samples = pd.DataFrame(
        [
            {"variant": name, "protocol": protocol, "round": r, "disturbed": r == 1, **timed(ms * f)}
            for name, ms in medians.items()
            for protocol, f in (("padded", 1.0), ("real", 0.5))
            for r in range(3)
        ]
    )
    lengths = samples.query("protocol == 'real'").assign(length=16)[["variant", "length", "round", "ms", "disturbed"]]
    throughput = pd.DataFrame(
        [
            {"variant": name, "batch_size": size, "round": 0, "per_s": size * 1000 / ms}
            for name, ms in medians.items()
            for size in (1, 2)
        ]
    )
    cold = pd.DataFrame({"variant": ["kd", "kd", "kd"], "s": [2.0, 1.0, 9.0]})
    logits = {name: {split: np.eye(2)[[0, 1, 1, 0]] for split in ("val", "test")} for name in medians}
    logits["kd"] = {split: np.eye(2)[[0, 1, 1, 1]] for split in ("val", "test")}
    labels, peaks = {name: ["a", "b"] for name in medians}, {name: 100.0 for name in medians}
    return Measurements(samples, lengths, throughput, cold, logits, labels, peaks, batch_size=2, int8_peak_gops=500)


GAINS = {
    "teacher": (1, 1, 1),
    "teacher_ort_fp32": (2, 1, 2),
    "teacher_torch_int8": (2.5, 2.5, 1),
    "kd": (4, 4, 1),
    "kd_ort_int8": (10, 5, 2),
    "qat": (20, None, None),
    "bag_of_words": (800, None, None),
}
"""Variant -> its speed-up, what of it comes from compression, and what from the runtime."""


def test_gains_of_compression_and_runtime_are_told_apart(tmp_path):
    medians = {
        "teacher": 80.0,
        "teacher_ort_fp32": 40.0,
        "teacher_torch_int8": 32.0,
        "kd": 20.0,
        "kd_ort_int8": 8.0,
        "qat": 4.0,
        "bag_of_words": 0.1,
    }
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "file").write_bytes(bytes(2_000_000))
    empty = tmp_path / "empty"
    variants = [
        Variant("teacher", "teacher", "torch", empty),
        Variant("teacher_ort_fp32", "teacher", "onnxruntime", empty),
        Variant("teacher_torch_int8", "teacher", "torch_int8", empty, shipped=tmp_path / "state"),
        Variant("kd", "kd", "torch", empty),
        Variant("kd_ort_int8", "kd", "onnxruntime", empty),
        Variant("qat", "qat", "openvino", empty),
        Variant("bag_of_words", "bag_of_words", "bag_of_words", empty),
    ]
    rows = pd.DataFrame({"label": ["a", "b", "b", "a"]})
    parameters = {"teacher": 10, "kd": 5, "qat": 5, "bag_of_words": 1}
    evaluate = EvaluateParams(extra="inputs/extra", opposite_labels=["a", "b"], bootstrap_resamples=100)
    splits, operations = {"val": rows, "test": rows}, {"kd_ort_int8": 1_800_000_000}
    table = variant_metrics(variants, hand_made(medians), splits, parameters, operations, evaluate, seed=0)
    for ending in ("", "_padded"):
        keys = [f"{key}{ending}" for key in ("speedup", "compression_gain", "runtime_gain")]
        for row in table.values():
            assert all(row[key] is None or row[key]["low"] == row[key]["value"] == row[key]["high"] for key in keys)
        gains = {name: tuple(row[key] and row[key]["value"] for key in keys) for name, row in table.items()}
        assert gains == GAINS
    assert table["kd"]["latency_ms"] == dict.fromkeys(("p50", "p95", "p99", "low", "high"), 10)
    assert table["kd"]["forward_ms"]["p50"] == 9 and table["kd"]["tokenise_ms"] == 1
    assert table["kd"]["latency_padded_ms"]["p50"] == 20 and table["kd"]["forward_padded_ms"]["p50"] == 18
    assert table["kd_ort_int8"]["int8_peak_share"] == 0.5, "1.8 billion in 7.2 ms are 250 a second, of 500"
    assert table["kd"]["int8_peak_share"] is None
    assert table["kd"]["throughput_per_s"] == 100 and table["kd"]["disturbed_rounds"] == 1
    assert table["kd"]["cold_start_s"] == 2 and table["teacher"]["cold_start_s"] is None
    assert table["kd"]["flips"] == {"right_to_wrong": 1, "wrong_to_right": 0, "wrong_to_wrong": 0}
    assert table["kd"]["reversals"] == table["kd"]["mcnemar_p"] == 1 and table["teacher"]["reversals"] == 0
    change = table["kd"]["macro_f1_change"]
    assert change["value"] == round(table["kd"]["macro_f1"] - 1, 6) and change["low"] < change["value"]
    confidence = np.exp(1) / (1 + np.exp(1))
    assert table["teacher"]["ece"] == pytest.approx(1 - confidence, abs=1e-6)
    assert table["kd"]["ece"] == pytest.approx(abs(0.75 - confidence), abs=1e-6)
    assert table["kd"]["accuracy"] == table["kd"]["agreement"] == 0.75 and table["kd_ort_int8"]["parameters"] == 5
    assert table["teacher_torch_int8"]["size_mb"] == 2 and table["teacher"]["size_mb"] == 0
    assert len({tuple(row) for row in table.values()}) == 1


def test_round_medians_keep_the_flag():
    table = round_medians(hand_made({"teacher": 8.0, "kd": 2.0}).samples)
    assert table.query("variant == 'kd' and protocol == 'real'")["disturbed"].tolist() == [False, True, False]
    assert (table.query("variant == 'kd' and protocol == 'real'")["p50_ms"] == 1.0).all()
