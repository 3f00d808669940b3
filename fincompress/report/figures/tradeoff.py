"""What each variant costs and keeps: macro F1 against latency."""

from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

from fincompress.core.variants import runtime_of_variant
from fincompress.report.figures.style import INK, LATENCY_KEYS, colour_and_marker_legend, colours, plain_ticks
from fincompress.report.results import pareto_front


def f1_against_latency(records: dict[str, dict], protocol: str) -> Figure:
    """Macro F1 by median latency, with bubbles sized like the models on disk; those on the Pareto front are labelled.

    The front is chosen on validation, and what is drawn is the test score.
    """
    key = LATENCY_KEYS[protocol]
    front = pareto_front(records, key)
    palette = colours(list(records))
    figure, axes = plt.subplots(figsize=(10.5, 5.6))
    points = {name: (record[key]["p50"], record["macro_f1"]) for name, record in records.items()}
    areas = {name: 40 + 5 * record["size_mb"] for name, record in records.items()}  # square points
    for name in sorted(records, key=lambda name: areas[name], reverse=True):  # small bubbles on top of large ones
        style = {"color": palette[name], "marker": runtime_of_variant(name).marker, "s": areas[name]}
        width = 2.2 if name in front else 0.6
        axes.scatter(*points[name], **style, alpha=0.75, edgecolor=INK, linewidth=width, zorder=2)
    axes.set_xscale("log")
    axes.margins(0.22, 0.25)
    plain_ticks(axes, "x")
    lengths = "real sentence lengths" if protocol == "real" else "padded"
    axes.set(
        xlabel=f"median from text to label, ms (log scale, {lengths})",
        ylabel="test macro F1",
        title="What each variant costs and keeps",
    )
    ring: Any = {"marker": "o", "markersize": 9, "markerfacecolor": "none", "markeredgecolor": INK}
    front_ring = plt.Line2D([], [], linestyle="", label="Pareto front\n(of validation)", markeredgewidth=2.2, **ring)
    colour_and_marker_legend(axes, palette, "area: size on disk", [front_ring])
    figure.canvas.draw()  # settles the layout before labels are placed
    labels = {name: f"{name}\n{records[name]['size_mb']:.3g} MB" for name in front}
    _place_labels(axes, points, areas, labels)
    return figure


def _place_labels(axes: Axes, points: dict[str, tuple], areas: dict[str, float], labels: dict[str, str]) -> None:
    """Write each label on the side of its point where it overlaps least with bubbles and earlier labels.

    The left is tried first: nothing is both faster and better than a point on the front, so there is usually room.
    """
    taken: list[Bbox] = []
    for name, (x, y) in zip(points, axes.transData.transform(np.array(list(points.values()))), strict=True):
        side = areas[name] ** 0.5 * axes.figure.dpi / 72  # pixels
        taken.append(Bbox.from_bounds(x - side / 2, y - side / 2, side, side))
    sides = [
        (-14, 0, "right", "center"),
        (0, 16, "center", "bottom"),
        (0, -16, "center", "top"),
        (14, 0, "left", "center"),
    ]
    for name, label in labels.items():
        candidates = []
        for dx, dy, horizontal, vertical in sides:
            text = axes.annotate(
                label,
                points[name],
                xytext=(dx, dy),
                textcoords="offset points",
                ha=horizontal,
                va=vertical,
                fontsize=9,
            )
            box = text.get_window_extent()
            overlap = sum(_shared_area(box, other) for other in taken)
            outside = box.width * box.height - _shared_area(box, axes.bbox)
            candidates.append((overlap + outside, text, box))
        best = min(range(len(sides)), key=lambda index: candidates[index][0])
        for index, (_, text, box) in enumerate(candidates):
            if index == best:
                taken.append(box)
            else:
                text.remove()


def _shared_area(a: Bbox, b: Bbox) -> float:
    """Of two boxes, in square pixels."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, width) * max(0.0, height)
