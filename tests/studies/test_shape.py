"""The shapes that are measured are what their page says, and every one becomes a variant."""

import numpy as np
import pandas as pd
import pytest
from transformers import BertConfig

from fincompress.compress.sparsity import count_kinds, sparsity
from fincompress.core.sections import PtqParams
from fincompress.networks.structure import structure_of
from studies import shape as shape_benchmark
from studies.shape import STUDIES, Study, make_variants, random_classifier, report


def test_distilbert_is_pruned_as_the_recipe_does():
    networks = {name: make(30522, 0) for name, make in STUDIES["distilbert"].networks.items()}
    whole = count_kinds(networks["distilbert"])
    assert round(networks["distilbert"].num_parameters() / 1e6) == 67
    shapes = {name: structure_of(model) for name, model in networks.items()}
    heads = {name: sum(map(len, shape.kept_heads)) for name, shape in shapes.items()}
    assert heads == {"distilbert": 72, "zeroed": 72, "published": 72 - 43, "pruned": 72 - 43}
    assert shapes["pruned"].ffn_widths == [1536] * 6 and shapes["published"].ffn_widths == [3072] * 6
    rows = {row["kind"]: row for row in sparsity(networks["published"], whole)}
    assert rows["feed_forward"]["zeroed"] == pytest.approx(0.6, abs=0.01) and rows["feed_forward"]["removed"] == 0
    assert networks["zeroed"].num_parameters() == networks["distilbert"].num_parameters()


def test_every_network_and_its_int8_forms_are_variants(checkpoint, tmp_path):
    from fincompress.networks.checkpoints import load_tokenizer

    shape = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    network = lambda vocabulary, seed: random_classifier(BertConfig(vocab_size=vocabulary, **shape), seed)  # noqa: E731
    study = Study("Title", "Text", {"whole": network, "half": network}, ("half",))
    params = PtqParams(calibration_samples=2, keep_classifier_float=False, embedding_group=None)
    variants = make_variants(study, tmp_path, load_tokenizer(str(checkpoint)), params, ["Profit rose.", "Loss."], 0)
    assert [(variant.name, variant.network, variant.runtime) for variant in variants] == [
        ("whole", "whole", "torch"),
        ("half", "half", "torch"),
        ("half_ort_int8", "half", "onnxruntime"),
        ("half_ov_int8", "half", "openvino"),
    ]
    assert all(any(variant.folder.iterdir()) for variant in variants)


def test_the_page_has_a_row_a_variant_and_says_that_weights_are_random(monkeypatch):
    table = pd.DataFrame({"size_mb": [80.0, 20.0], "real": [8.0, 2.0], "padded": [16.0, 2.0]}, index=["bert_base", "s"])
    for column in list(table):
        table[f"{column}_ratio"] = table[column].iloc[0] / table[column]
    page = report(
        "bert_base",
        table,
        {"cpu": "CPU", "vector_instructions": ["avx2"], "threads": 2, "libraries": {"numpy": np.__version__}},
        runs=40,
    )
    assert "| `s` | 20.0 | 4.0 | 2.00 | 4.0 | 2.00 | 8.0 |" in page and "all with random weights" in page
    assert "Median latency of 40 runs" in page
    assert shape_benchmark.STUDIES["bert_base"].title in page
