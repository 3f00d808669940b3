"""`benchmark.variants`: all, or a few of them with the reference."""

from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest
from conftest import ROOT
from matplotlib import pyplot as plt
from ruamel.yaml import YAML

from fincompress.core.errors import InputError
from fincompress.core.params import checked_params
from fincompress.core.registry import PIPELINES
from fincompress.core.variants import chosen_variants, measured_variants
from fincompress.report.figures.training import pruning_curves
from stages import ship

FILES = {"side_by_side": ROOT / "params.yaml", "stacked": ROOT / "recipes/distilbert-agnews/params.yaml"}


def with_variants(tmp_path: Path, kind: str, variants) -> Path:
    yaml = YAML()
    content = yaml.load(FILES[kind].read_text(encoding="utf-8"))
    content["benchmark"]["variants"] = variants
    path = tmp_path / "params.yaml"
    with path.open("w", encoding="utf-8") as file:
        yaml.dump(content, file)
    return path


@pytest.mark.parametrize("kind", PIPELINES)
def test_every_measured_variant_can_be_named(tmp_path, kind):
    names = [variant.name for variant in measured_variants(Path("models"), Path("folder"), PIPELINES[kind])]
    assert checked_params(with_variants(tmp_path, kind, names)).benchmark.variants == names
    assert checked_params(FILES[kind]).benchmark.variants == "all"


@pytest.mark.parametrize(
    ("variants", "message"),
    [
        (
            ["kd", "kd_ort_in8"],
            "benchmark.variants: the pipeline measures no `kd_ort_in8`; did you mean `kd_ort_int8`?",
        ),
        (["zzz"], "benchmark.variants: the pipeline measures no `zzz`; it measures teacher, kd,"),
        ([], "benchmark.variants: expected all, or a list of variants such as [kd, kd_ort_int8] (got [])"),
        ("kd", "benchmark.variants: expected all, or a list of variants such as [kd, kd_ort_int8] (got 'kd')"),
        ([3], "benchmark.variants: expected all, or a list of variants"),
    ],
)
def test_what_is_no_list_of_variants_is_one_line(tmp_path, variants, message):
    with pytest.raises(InputError) as told:
        checked_params(with_variants(tmp_path, "side_by_side", variants))
    assert message in str(told.value) and str(told.value).count("benchmark.variants") == 1


def test_the_reference_is_always_among_the_chosen():
    variants = measured_variants(Path("models"), Path("folder"), PIPELINES["side_by_side"])
    assert [variant.name for variant in chosen_variants(variants, ["qat", "kd"])] == ["teacher", "kd", "qat"]
    assert chosen_variants(variants, "all") == variants


def test_shipping_what_was_not_measured_is_one_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_variants(tmp_path, "side_by_side", ["kd_ort_int8", "kd"])
    records = {name: {} for name in ("teacher", "kd", "kd_ort_int8")}
    monkeypatch.setattr(ship, "load_results", lambda *_: SimpleNamespace(records=records))
    with pytest.raises(
        InputError, match=r"ship\.variants: ikd, ikd_ort_int8, tiny_ort_int8, qat not measured.*benchmark\.variants"
    ):
        ship.main()
    assert not (tmp_path / "models").exists()


def test_the_figure_of_pruning_does_without_the_pruned_networks_measurements():
    columns = ["head_sparsity", "val_macro_f1_pruned", "val_macro_f1_recovered"]
    rounds = {
        name: pd.DataFrame([[0.0, 0.8, 0.8], [0.1, 0.7, 0.75]], columns=columns) for name in ("prune30", "prune50")
    }
    figure = pruning_curves(rounds, ["teacher", "kd"])
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    plt.close(figure)
    assert {"prune30, recovered", "prune50, recovered"} <= set(labels)
