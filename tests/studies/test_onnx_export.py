"""The study of the export to ONNX Runtime, on a tiny network."""

from conftest import ROOT, few_rows

from fincompress.benchmark.machine import environment
from fincompress.core.params import checked_params
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from studies import onnx_export


def test_every_form_of_a_network_is_scored_and_timed_on_one_thread_and_on_more(checkpoint, tmp_path):
    save(load_model(str(checkpoint)), load_tokenizer(str(checkpoint), 32), tmp_path / "kd", {})
    few = {"runs": 6, "warmups": 2, "rounds": 2, "side_rounds": 1, "threads": 2, "cold_starts": 0, "max_repeats": 0}
    sizes = {"lengths": [8], "padded_length": 16, "batch_size": 2, "batch_sizes": [2]}
    short = checked_params(ROOT / "params.yaml").benchmark.model_copy(update=few | sizes)
    splits = {name: few_rows(4) for name in ("val", "test")}
    rows = onnx_export.study("kd", tmp_path, splits, short, seed=0)
    assert [row["form"] for row in rows] == list(onnx_export.FORMS)
    sizes = {row["form"]: row["size"] for row in rows}
    assert sizes[onnx_export.CHOSEN] < sizes[onnx_export.PLAIN]
    by_form = {row["form"]: row for row in rows}
    assert by_form["fp32, fused"]["changed"] == by_form[onnx_export.PLAIN]["changed"] == 0
    for key in ("changed", "val_f1", "test_f1"):
        plain = by_form["int8 of 7 bits, plain operators"][key]
        assert by_form[onnx_export.NO_MASK][key] == plain, "alone, a text has no padding to mask"
    for row in rows:
        assert set(row["ms"]) == {(count, kind) for count in (1, 2) for kind in ("real", "padded", "short")}
        assert min(row["ms"].values()) > 0
    text = onnx_export.page(rows, environment(2), 6, "a command")
    assert text.count("\n| ") == len(rows) + 1 and "Made by `a command`." in text
