"""What figures share: colours, markers, legends, ticks, panels."""

from collections.abc import Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from fincompress.core.registry import PIPELINES
from fincompress.core.variants import FLOOR, network_of, runtime_of_variant

matplotlib.use("Agg")
CROWDED = 15  # columns of a heat map, above which their names stand upright
LATENCY_KEYS = {"real": "latency_ms", "padded": "latency_padded_ms"}
INK = "#1b1f24"  # of text and lines; the page replaces it by its own colour, which follows light or dark mode
STYLE: Any = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "svg.fonttype": "none",  # text that can be searched and copied
    "svg.hashsalt": "fincompress",  # the same figure gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "text.parse_math": False,  # a `$` in the name of a label or source is a dollar sign
    "font.size": 10,
    "font.sans-serif": ["DejaVu Sans"],  # an SVG repeats the whole list at every text
}


def colours(variants: list[str]) -> dict[str, Any]:
    """One colour per network, the same in every figure, so that its variants are seen to belong together."""
    order = _order(variants)
    cycle = matplotlib.color_sequences["tab10"]
    return {name: cycle[order.index(network_of(name)) % len(cycle)] for name in variants}


def _order(variants: list[str]) -> list[str]:
    """The floor, then the networks of the pipeline that these variants belong to."""
    held = {network_of(name) for name in variants}
    entries = [[network.name for network in pipeline.networks] for pipeline in PIPELINES.values()]
    return [FLOOR, *next((names for names in entries if held <= {FLOOR, *names}), sorted(held))]


def colour_and_marker_legend(
    axes: Axes, palette: dict[str, tuple], title: str = "", further: list[plt.Line2D] | None = None
) -> None:
    """A legend in which colours are networks and markers are runtimes."""
    variants = list(palette)
    colour_of = {network_of(name): palette[name] for name in variants}
    networks = {name: colour_of[name] for name in _order(variants) if name in colour_of}
    runtimes = {entry.title: entry.marker for name in variants for entry in [runtime_of_variant(name)]}
    handles = [
        *(plt.Line2D([], [], color=colour, linewidth=6, label=network) for network, colour in networks.items()),
        *(
            plt.Line2D([], [], color="0.4", marker=marker, linestyle="", label=title)
            for title, marker in runtimes.items()
        ),
        *(further or []),
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title=title)


def plain_ticks(axes: Axes, which: str) -> None:
    """Ticks of a log axis as plain numbers at 1, 2 and 5."""
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def panel_grid(count: int, width: float, height: float, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A grid of panels, each of a size in inches, of which `count` are in use."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    for axes in panels.flat[count:]:
        axes.set_axis_off()
    return figure, list(panels.flat[:count])


def short(name: str, most: int = 24) -> str:
    """A name on one line that fits beside a figure."""
    name = " ".join(name.split())
    return name if len(name) <= most else f"{name[: most - 1].rstrip()}…"


def heat_map(
    axes: Axes,
    values: np.ndarray,
    texts: Sequence[Sequence[str]],
    columns: Sequence[str],
    rows: Sequence[str],
    colour_map: str,
    limits: tuple[float, float],
) -> None:
    """A grid of coloured cells, [rows, columns], each with its text in a shade that can be read on it.

    The names of more than a dozen columns, or of long ones, are turned to be read from below.
    """
    axes.imshow(values, cmap=colour_map, vmin=limits[0], vmax=limits[1], aspect="auto")
    dark = matplotlib.colormaps[colour_map]
    for row, column in np.ndindex(*np.shape(values)):
        red, green, blue, _ = dark((values[row, column] - limits[0]) / (limits[1] - limits[0]))
        shade = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=shade, fontsize=9)
    axes.set_xticks(range(len(columns)), columns, rotation=90 if len(columns) > CROWDED else 0)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
