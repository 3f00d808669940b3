"""The study of importance criteria."""

import json

from conftest import LABELS, ROOT, few_rows

from fincompress.core.params import checked_params
from fincompress.networks.checkpoints import load_model, save
from studies import head_importance as pruning_study


def test_the_study_has_a_row_a_criterion_and_seed_and_does_not_repeat_them(
    checkpoint, tokenizer, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    save(load_model(str(checkpoint)), tokenizer, tmp_path / "network", {})
    (tmp_path / "data").mkdir()
    for name in ("train", "val", "test"):
        few_rows(8).to_csv(tmp_path / "data" / f"{name}.csv", index=False)
    (tmp_path / "data/labels.json").write_text(json.dumps({"labels": LABELS}))
    short = checked_params(ROOT / "params.yaml").prune30.model_copy(update={"epochs": 0})
    monkeypatch.setattr(pruning_study, "load_params", lambda needs, section: needs(own=short))
    out = tmp_path / "results/study.csv"
    rows = pruning_study.study("prune30", [1, 2], tmp_path / "network", tmp_path / "data", out)
    assert list(zip(rows["importance"], rows["seed"], strict=True)) == [
        (criterion, seed)
        for criterion in ("entropy", "attention", "magnitude", "gradient", "fisher", "random")
        for seed in (1, 2)
    ]
    assert (rows["heads_removed"] == 5).all() and rows["macro_f1"].between(0, 1).all()
    monkeypatch.setattr(pruning_study, "prune", None)
    again = pruning_study.study("prune30", [1, 2], tmp_path / "network", tmp_path / "data", out)
    assert len(again) == 12 and pruning_study.page(again, out).count("| 5 | 2 |") == 6
