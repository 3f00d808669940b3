"""DeBERTa-v3 and ModernBERT by the commands that people run: every network of the pipeline, and its tables."""

import pandas as pd
import pytest
from conftest import NETWORKS, Project
from real_shapes import save_checkpoint

from fincompress.core.files import read_json
from fincompress.data.prepared import read_split
from fincompress.serving.classifier import load_classifier


@pytest.mark.e2e
@pytest.mark.parametrize("model_type", ["deberta-v2", "modernbert"])
def test_every_network_of_another_architecture_is_made_measured_and_in_the_tables(model_type, fresh_project, tmp_path):
    project: Project = fresh_project.copy(tmp_path / "project")
    save_checkpoint(model_type, project.root / "tiny/other")
    once = {f"{stage}.epochs": 1 for stage in ("teacher", "kd", "ikd", "tiny", "qat")}
    project.set_params(
        {
            "teacher.checkpoint": "tiny/other",
            **once,
            "ikd.lambda_embedding": 1.0,
            "prune30.ffn_fraction": 0.25,
            "prune50.ffn_fraction": 0.5,
            "prune50.source": "prune30",
            "tiny.source": "ikd",
            "tiny.lambda_hidden": 1.0,
            "benchmark.runs": 4,
            "benchmark.warmups": 1,
            "benchmark.lengths": [16],
            "benchmark.batch_sizes": [1],
        }
    )
    project.repro()
    records = project.metrics()
    converted = {f"{name}{suffix}" for name in NETWORKS for suffix in ("", "_ov_int8", "_ort_int8")}
    others = {"teacher_ort_fp32", "teacher_ov_fp32", "teacher_torch_int8", "qat", "bag_of_words"}
    assert set(records) == converted | others
    for runtime in ("ort", "ov"):
        assert records[f"teacher_{runtime}_fp32"]["macro_f1"] == pytest.approx(records["teacher"]["macro_f1"], abs=0.03)
    shares = {name: record["int8_peak_share"] for name, record in records.items()}
    assert all(share > 0 for name, share in shares.items() if name.endswith("_int8") and name != "teacher_torch_int8")
    predictions = pd.read_csv(project.root / "plots/tables/predictions.csv")
    assert set(records) <= set(predictions) and not predictions.isna().any().any()
    assert (project.root / "plots/report.html").stat().st_size > 100_000
    models = project.root / "models"
    pruned = read_json(models / "prune50/config.json")
    assert pruned["model_type"] == model_type and sum(map(len, pruned["pruned_structure"]["kept_heads"])) == 6
    assert pruned["pruned_structure"]["ffn_widths"] == [32] * 3
    texts = read_split(project.root / "data", "val")["text"].tolist()
    for network in ("teacher", "prune50", "tiny"):
        exact = load_classifier(models / network)(texts)
        for suffix in ("_ort_int8", "_ov_int8"):
            found = load_classifier(models / "ptq" / f"{network}{suffix}")(texts)
            same = sum(one.label == other.label for one, other in zip(exact, found, strict=True))
            assert same > 0.8 * len(texts), f"{network}{suffix}"
    results = project.run("python", "-m", "fincompress", "results").stdout
    assert all(name in results for name in converted)
