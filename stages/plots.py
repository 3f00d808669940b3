"""plots: figures from the metrics and tables that the other stages left."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from fincompress import plots, stage
from fincompress.files import atomic_file, read_json
from fincompress.params import load_params
from fincompress.results import load_metrics


def main(
    data: Path = Path("data"),
    metrics: Path = Path("metrics"),
    tables: Path = Path("plots/tables"),
    training: Path = Path("plots/training"),
    pruning: Path = Path("plots/pruning"),
    out: Path = Path("plots/figures"),
) -> None:
    """Write OUT/*.png."""
    params = load_params("plots").plots
    records = load_metrics(metrics)
    curves = {name: training / name for name in records if (training / name).is_dir()}
    pruned = {path.parent.name: path.parent for path in sorted(pruning.glob("*/rounds.csv"))}
    with plt.rc_context(plots.STYLE):
        figures = {
            "f1_against_latency": plots.f1_against_latency(records, params.latency),
            "learning_curves": plots.learning_curves(curves),
            "pruning_curves": plots.pruning_curves(
                {name: pd.read_csv(folder / "rounds.csv") for name, folder in pruned.items()}, list(records)
            ),
            "head_importance": plots.head_importance(
                {name: pd.read_csv(folder / "importance.csv") for name, folder in pruned.items()}
            ),
            "latency_distributions": plots.latency_distributions(pd.read_csv(tables / "latency_samples.csv")),
            "confusion_matrices": plots.confusion_matrices(
                pd.read_csv(tables / "predictions.csv", dtype=str), read_json(data / "labels.json")["labels"]
            ),
            "f1_by_phenomenon": plots.f1_by_group(
                pd.read_csv(tables / "breakdown.csv", keep_default_na=False), list(records)
            ),
        }
        for name, figure in figures.items():
            with atomic_file(out / f"{name}.png") as path:
                figure.savefig(path, dpi=params.dpi)
            plt.close(figure)


if __name__ == "__main__":
    stage.run(main)
