"""Every figure of a run, drawn from metrics and tables on disk; no model is loaded here."""

from pathlib import Path

import pandas as pd
from matplotlib.figure import Figure

from fincompress.report.figures.latency import latency_curves, latency_distributions
from fincompress.report.figures.quality import confusion_matrices, f1_by_group, f1_changes, reliability_diagrams
from fincompress.report.figures.tradeoff import f1_against_latency
from fincompress.report.figures.training import head_importance, learning_curves, pruning_curves, sparsity
from fincompress.report.results import Results

GROUPS = ("phenomenon", "source", "length", "class")


def figures(results: Results, folder: Path, labels: list[str], latency: str) -> dict[str, Figure]:
    """Every figure of a run by its name, in the order in which they are drawn.

    Args:
        folder: where the stages left `tables/`, `training/` and `pruning/`.
        labels: in id order.
        latency: which latency the Pareto plot shows, `real` or `padded`.
    """
    records, breakdown = results.records, results.breakdown
    tables, training = folder / "tables", folder / "training"
    pruned = sorted(path.parent for path in folder.glob("pruning/*/rounds.csv"))
    rounds, importance = (
        {stage.name: pd.read_csv(stage / f"{name}.csv") for stage in pruned} for name in ("rounds", "importance")
    )
    zeros = {path.parent.name: pd.read_csv(path) for path in sorted(folder.glob("pruning/*/sparsity.csv"))}
    by_group = {
        f"f1_by_{group}": f1_by_group(breakdown, list(records), group)
        for group in GROUPS
        if (breakdown["group"] == group).any()
    }
    return {
        "f1_against_latency": f1_against_latency(records, latency),
        "f1_changes": f1_changes(records, results.params.margin),
        "confusion_matrices": confusion_matrices(_predictions(tables), labels),
        **by_group,
        "reliability_diagrams": reliability_diagrams(pd.read_csv(tables / "calibration.csv"), records),
        "latency_distributions": latency_distributions(pd.read_csv(tables / "latency_samples.csv")),
        "latency_curves": latency_curves(
            pd.read_csv(tables / "latency_by_length.csv"), pd.read_csv(tables / "throughput_by_batch.csv")
        ),
        "pruning_curves": pruning_curves(rounds, list(records)),
        **({"sparsity": sparsity(zeros)} if zeros else {}),
        "head_importance": head_importance(importance),
        "learning_curves": learning_curves({name: training / name for name in records if (training / name).is_dir()}),
    }


def _predictions(tables: Path) -> pd.DataFrame:
    """What every variant predicts for the test rows; a label may be called None or 1."""
    return pd.read_csv(tables / "predictions.csv", dtype=str, keep_default_na=False)
