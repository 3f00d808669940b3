"""Figures of quality: changes, confusion, scores by group, reliability."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fincompress.core.groups import MOST_GROUPS, OTHERS, largest
from fincompress.core.variants import reference_of, runtime_of_variant
from fincompress.report.figures.style import INK, colours, heat_map, panel_grid, short


def f1_changes(records: dict[str, dict], margin: float) -> Figure:
    """Difference in test macro F1 from the reference with its 95 % interval, in points; records in their order.

    Args:
        margin: macro F1 that may be lost, where a line is drawn.
    """
    reference = reference_of(records)
    names = [name for name in reversed(records) if name != reference]  # the first on top
    palette = colours(names)
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.3 * len(names)))
    for row, name in enumerate(names):
        value, low, high = (100 * records[name]["macro_f1_change"][key] for key in ("value", "low", "high"))
        axes.plot([low, high], [row, row], color=palette[name], linewidth=3, alpha=0.6, solid_capstyle="butt")
        axes.plot(value, row, runtime_of_variant(name).marker, color=palette[name], markeredgecolor=INK)
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvline(-100 * margin, color="crimson", linewidth=1, linestyle="--", label=f"{-100 * margin:+.1f} points")
    axes.set_yticks(range(len(names)), names)
    axes.set(title=f"Change against {reference}, 95 % interval", xlabel="points of test macro F1")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def reliability_diagrams(calibration: pd.DataFrame, records: dict[str, dict]) -> Figure:
    """Accuracy by confidence, one panel per variant; the area of a dot shows how many rows it stands for.

    Args:
        calibration: calibration.csv.
    """
    figure, panels = panel_grid(len(records), 2.6, 2.6)
    palette = colours(list(records))
    groups = dict(list(calibration.groupby("variant")))
    for axes, (name, record) in zip(panels, records.items(), strict=True):
        part = groups[name]
        axes.plot([0, 1], [0, 1], color="0.55", linestyle="--", linewidth=1)
        areas = 400 * part["rows"] / part["rows"].sum() + 8
        axes.plot(part["confidence"], part["accuracy"], color=palette[name], linewidth=1)
        axes.scatter(
            part["confidence"], part["accuracy"], s=areas, color=palette[name], alpha=0.7, edgecolor=INK, clip_on=False
        )
        axes.set(xlim=(0, 1.03), ylim=(0, 1.03), xlabel="confidence", ylabel="accuracy", aspect="equal")
        axes.set_title(f"{name}\nECE {record['ece']:.3f}", fontsize=9)
    return figure


def confusion_matrices(predictions: pd.DataFrame, labels: list[str]) -> Figure:
    """A confusion matrix a variant: share of each true label's rows (colour) and their number.

    Labels beyond the `MOST_GROUPS` with the most rows are shown together.
    """
    from sklearn.metrics import confusion_matrix

    variants = [column for column in predictions.columns if column not in ("id", "label")]
    apart, shown = predictions["label"], labels
    if len(labels) > MOST_GROUPS:
        apart = largest(apart)
        shown = [label for label in labels if label in set(apart)]
        shown = [*shown, next((value for value in set(apart) if value not in labels), OTHERS)]
    size = max(1.0, len(shown) / 6)
    figure, panels = panel_grid(len(variants), 3.6 * size, 3.4 * size)
    names = [short(label) for label in shown]
    for axes, name in zip(panels, variants, strict=True):
        said = predictions[name].where(predictions[name].isin(shown), shown[-1])
        counts = confusion_matrix(apart, said, labels=shown)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        heat_map(axes, shares, counts.astype(str), names, names, "Blues", (0, 1))
        axes.set(title=name, xlabel="predicted", ylabel="true")
    return figure


def f1_by_group(breakdown: pd.DataFrame, variants: list[str], group: str) -> Figure:
    """F1 of every variant by class (of that class), or by source, sentence length or phenomenon (macro F1).

    Lengths keep their order; for the others, what is hardest for the first variant comes first. Of many values, the
    `MOST_GROUPS` with the most rows are shown.

    Args:
        group: class, source, length or phenomenon.
    """
    rows = breakdown.query("group == @group")
    table = rows.pivot(index="value", columns="variant", values="f1")[variants]
    counts = rows.drop_duplicates("value").set_index("value")["rows"]
    title = f"{'F1' if group == 'class' else 'Macro F1'} by {group} (test rows)"
    if len(table) > MOST_GROUPS + 1:  # one for what `largest` puts together
        title += f", the {MOST_GROUPS} largest of {len(table)}"
        table = table.loc[counts.sort_values(ascending=False, kind="stable").index[:MOST_GROUPS]]
    order = rows["value"].unique() if group == "length" else table[variants[0]].sort_values().index
    table = table.loc[order].T
    figure, axes = plt.subplots(figsize=(max(5.0, 2.2 + 1.05 * table.shape[1]), 1.6 + 0.34 * len(variants)))
    texts = table.map(lambda value: f"{value:.2f}").to_numpy()
    names = [f"{short(str(value))}\n({counts[value]})" for value in table.columns]
    heat_map(axes, table.to_numpy(), texts, names, variants, "RdYlGn", (0, 1))
    axes.set(title=title)
    return figure
