"""Figures of training and pruning."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fincompress.report.figures.style import colours


def learning_curves(folders: dict[str, Path]) -> Figure:
    """Loss and validation macro F1 by epoch for every training stage; a stage that did not train has no line."""
    figure, (loss, f1) = plt.subplots(1, 2, figsize=(10, 4))
    best_points = []
    palette = colours(list(folders))
    for name, folder in folders.items():
        colour = palette[name]
        for metric, axes, style in (("train/loss", loss, "--"), ("val/loss", loss, "-"), ("val/macro_f1", f1, "-")):
            path = folder / f"{metric}.tsv"
            if path.is_file():
                table = pd.read_csv(path, sep="\t")
                values = table[table.columns[-1]]
                label = f"{name}, {metric.split('/')[0]}" if axes is loss else name
                axes.plot(table["step"], values, style, color=colour, marker=".", label=label)
                if axes is f1:
                    best_points.append((table["step"][values.idxmax()], values.max(), colour))
    for x, y, colour in best_points:
        f1.scatter(x, y, s=110, facecolor="none", edgecolor=colour, linewidth=1.5, zorder=3)
    loss.set(title="Loss (training loss adds distillation terms)", xlabel="epoch", ylabel="loss", ylim=(0, None))
    f1.set(title="Validation macro F1 (ring: epoch kept)", xlabel="epoch", ylabel="macro F1")
    for axes in (loss, f1):
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        if axes.lines:
            axes.legend(frameon=False, fontsize=9)
    return figure


def pruning_curves(rounds: dict[str, pd.DataFrame], variants: list[str]) -> Figure:
    """Validation macro F1 by heads removed, right after each removal and after the recovery.

    Args:
        rounds: stage -> its rounds.csv.
        variants: the measured ones, which determine the colours; the stages' networks need not be among them.
    """
    palette = colours([*variants, *rounds])
    figure, axes = plt.subplots(figsize=(8, 4.5))
    longest_first = sorted(rounds, key=lambda name: -len(rounds[name]))
    for width, name in zip(range(2 * len(rounds), 0, -2), longest_first, strict=True):
        table, colour = rounds[name], palette[name]  # stages share their first rounds: each line is thinner
        share, recovered = 100 * table["head_sparsity"], table["val_macro_f1_recovered"]
        pruned = table["val_macro_f1_pruned"]
        axes.vlines(share, pruned, recovered, color=colour, linestyle=":", linewidth=width / 2)
        style: dict[str, Any] = {"color": colour, "linewidth": width, "markersize": 4 + width}
        if recovered.equals(pruned):  # no epochs of recovery
            axes.plot(share, pruned, "v-", label=f"{name}, not recovered", **style)
            continue
        axes.plot(share, recovered, "o-", label=f"{name}, recovered", **style)
        axes.plot(share[1:], pruned[1:], "v", alpha=0.6, label=f"{name}, just pruned", **style | {"linewidth": 0})
    axes.axhline(recovered.iloc[0], color="0.5", linewidth=1, linestyle="--", label="before pruning")
    axes.set(title="What each round of pruning costs", xlabel="heads removed, %", ylabel="validation macro F1")
    axes.legend(frameon=False, fontsize=9)
    return figure


def sparsity(tables: dict[str, pd.DataFrame]) -> Figure:
    """What pruning left of each kind of layer: parameters in use, set to zero, and removed for good.

    Args:
        tables: stage -> its sparsity.csv.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(5.6 * len(tables), 3.6), squeeze=False, sharey=True)
    for axes, (name, table) in zip(panels.flat, tables.items(), strict=True):
        parts = {
            "at work": table["parameters"] - table["zeros"],
            "zero": table["zeros"],
            "removed": table["parameters_before"] - table["parameters"],
        }
        left = np.zeros(len(table))
        for (title, counts), colour in zip(parts.items(), ("tab:blue", "tab:orange", "0.8"), strict=True):
            share = (100 * counts / table["parameters_before"]).to_numpy()
            axes.barh(table["kind"], share, left=left, color=colour, label=title)
            left += share
        axes.set(title=name, xlabel="% of the parameters before pruning", xlim=(0, 100))
        axes.grid(axis="y", visible=False)
    panels.flat[0].invert_yaxis()  # for all panels, which share it
    panels.flat[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def head_importance(tables: dict[str, pd.DataFrame]) -> Figure:
    """Each head's latest score, one row per layer; a removed head is crossed out and shows its round.

    Args:
        tables: stage -> its importance.csv.
    """
    figure, panels = plt.subplots(1, len(tables), figsize=(6.4 * len(tables), 4.4), squeeze=False)
    for axes, (name, table) in zip(panels.flat, tables.items(), strict=True):
        last = table.sort_values("round").groupby(["layer", "head"], as_index=False).last()
        scores = last.pivot(index="layer", columns="head", values="importance")
        image = axes.imshow(scores, cmap="viridis", aspect="auto")
        for head in last[last["kept"] == 0].itertuples():
            x, y = scores.columns.get_loc(head.head), scores.index.get_loc(head.layer)
            for tilt in (-0.38, 0.38):
                axes.plot([x - 0.38, x + 0.38], [y - tilt, y + tilt], color="crimson", linewidth=1.5)
            disc = {"boxstyle": "circle,pad=0.15", "facecolor": "white", "edgecolor": "crimson"}
            axes.text(x, y, head.round, ha="center", va="center", fontsize=7, color="black", bbox=disc)
        axes.set_xticks(range(len(scores.columns)), scores.columns)
        axes.set_yticks(range(len(scores.index)), scores.index)
        axes.set(title=f"{name} (×: removed in that round)", xlabel="head", ylabel="layer")
        axes.grid(visible=False)
        axes.spines[:].set_visible(False)
        figure.colorbar(image, ax=axes, label="importance when last scored")
    return figure
