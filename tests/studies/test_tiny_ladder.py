"""The steps to the tiny student, on a tiny project."""

import pandas as pd
import pytest
import torch
from conftest import LABELS, ROOT, few_rows
from random_classifiers import classifier
from settings import training_params
from transformers import BertConfig

from fincompress.benchmark.machine import environment
from fincompress.compress.ptq import to_onnx_int8
from fincompress.compress.tiny import build_tiny
from fincompress.core.params import checked_params
from fincompress.core.sections import TinyParams
from fincompress.networks.batches import tokenise
from fincompress.networks.checkpoints import save
from studies import tiny_ladder
from studies.shape import Study, random_classifier


def test_every_step_is_sized_timed_and_scored(tokenizer, tmp_path, monkeypatch):
    rows, models = few_rows(12), tmp_path / "models"
    params = checked_params(ROOT / "params.yaml")
    sizes = {"lengths": [8], "padded_length": 16, "batch_size": 2, "batch_sizes": [2]}
    few = {"runs": 4, "warmups": 1, "rounds": 2, "side_rounds": 1, "threads": 1, "cold_starts": 0, "max_repeats": 0}
    needs = tiny_ladder.Needs(
        seed=0,
        ptq=params.ptq,
        benchmark=params.benchmark.model_copy(update=few | sizes),
        evaluate=params.evaluate.model_copy(update={"bootstrap_resamples": 100}),
    )
    for name in ("teacher", "ikd"):
        save(classifier(), tokenizer, models / name, {})
    values = {**dict(params.tiny), **dict(training_params()), "source": "ikd", "layers": 2, "attention_heads": 2}
    tiny = TinyParams(**{**values, "intermediate_size": 16, "freeze_word_embeddings": True})
    made, smaller = build_tiny(
        classifier(), tokenizer, tokenise(rows, LABELS, tokenizer), rows["text"].tolist(), tiny, seed=0
    )
    save(made, smaller, models / "tiny", {})
    to_onnx_int8(models / "tiny", models / "ptq/tiny_ort_int8", params.ptq)
    rows.to_csv(tmp_path / "test.csv", index=False)
    shape = BertConfig(hidden_size=48, num_hidden_layers=4, num_attention_heads=4, intermediate_size=96)

    def network(vocabulary: int, seed: int) -> torch.nn.Module:
        shape.vocab_size = vocabulary
        return random_classifier(shape, seed)

    monkeypatch.setitem(tiny_ladder.STUDIES, "bert_base", Study("Title", "Text", {"bert_base": network}, ()))
    table = tiny_ladder.ladder(models, tmp_path, needs)
    by_name = table.set_index("name")
    assert list(table["name"]) == [step.name for step in tiny_ladder.STEPS]
    assert by_name.loc["vocabulary", "parameters"] < by_name.loc["layers", "parameters"]
    assert by_name.loc["tiny", "parameters"] < by_name.loc["vocabulary", "parameters"]
    assert by_name.loc["tiny_ort_int8", "size_mb"] < by_name.loc["tiny_ort_fp32", "size_mb"]
    assert by_name.loc["bert_base", "smaller"] == 1 and by_name.loc["bert_base", "real_faster"].value == 1
    assert by_name.loc["teacher", "change"]["value"] == 0
    assert by_name.loc["tiny", "macro_f1"] == pytest.approx(by_name.loc["tiny_ort_fp32", "macro_f1"], abs=0.05)
    assert (pd.to_numeric(table["per_s"]) > 0).all()
    page = tiny_ladder.page(table, environment(1), needs, None)
    assert page.count("\n| ") == len(table) + 1 and "Made by `python -m studies.tiny_ladder`." in page
