"""Figures of latency and throughput."""

import matplotlib
import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from fincompress.core.variants import FLOOR, runtime_of_variant
from fincompress.report.figures.style import INK, colour_and_marker_legend, colours, plain_ticks


def latency_distributions(samples: pd.DataFrame) -> Figure:
    """Every timed run of every variant, at real lengths and padded, with a bar at the median."""
    variants = list(samples.groupby("variant")["ms"].median().sort_values(ascending=False).index)
    palette = colours(variants)
    figure, panels = plt.subplots(1, 2, figsize=(11, 1.2 + 0.5 * len(variants)), sharex=True, sharey=True)
    titles = {"real": "Real sentence lengths", "padded": "Padded"}
    groups_of = dict(list(samples.groupby(["protocol", "variant"])["ms"]))
    for axes, (protocol, title) in zip(panels, titles.items(), strict=True):
        groups = [groups_of[protocol, name] for name in variants]
        parts = axes.violinplot(
            [np.log10(group) for group in groups], orientation="horizontal", showextrema=False, widths=0.85
        )
        for body, name in zip(parts["bodies"], variants, strict=True):
            body.set(facecolor=palette[name], alpha=0.65)
        for position, group in enumerate(groups, start=1):
            median = group.median()
            axes.plot([np.log10(median)] * 2, [position - 0.3, position + 0.3], color=INK, linewidth=1.5)
            axes.annotate(
                f"{median:.3g}",
                (np.log10(median), position + 0.32),
                ha="center",
                va="bottom",
                fontsize=8,
            )
        axes.set_yticks(range(1, len(variants) + 1), variants)
        axes.set(title=title, xlabel="ms a sentence (log scale, batch 1)", ylim=(0.4, len(variants) + 0.8))
        axes.xaxis.set_major_locator(matplotlib.ticker.MaxNLocator(integer=True))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{10**value:g}"))
        axes.grid(axis="y", visible=False)
    return figure


def latency_curves(lengths: pd.DataFrame, batches: pd.DataFrame) -> Figure:
    """Latency by length at batch 1, and throughput by batch size, with bars from the lowest to the highest round.

    Args:
        lengths, batches: latency_by_length.csv and throughput_by_batch.csv.
    """
    lengths, batches = (table[table["variant"] != FLOOR] for table in (lengths, batches))  # outside both scales
    palette = colours(list(lengths["variant"].unique()))
    figure, panels = plt.subplots(1, 2, figsize=(13, 5))
    for axes, table, x, y in ((panels[0], lengths, "length", "p50_ms"), (panels[1], batches, "batch_size", "per_s")):
        for name, part in table.groupby("variant"):
            spread = [part[y] - part["low"], part["high"] - part[y]]
            style = {
                "color": palette[name],
                "marker": runtime_of_variant(name).marker,
                "markersize": 5,
                "linewidth": 1,
            }
            axes.errorbar(part[x], part[y], np.maximum(spread, 0), elinewidth=0.7, alpha=0.8, **style)
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(sorted(table[x].unique())))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        plain_ticks(axes, "y")
    panels[0].set(title="Latency by length (batch 1)", xlabel="word pieces", ylabel="median ms")
    panels[1].set(title="Throughput by batch size", xlabel="sentences in a batch", ylabel="sentences a second")
    colour_and_marker_legend(panels[1], palette)
    return figure
