"""Figures, drawn from metrics and tables on disk; no model is loaded here."""

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from sklearn.metrics import confusion_matrix

from fincompress.results import Results, pareto_front
from fincompress.variants import PIPELINES, network_of, reference_of, runtime_name

matplotlib.use("Agg")
from matplotlib import pyplot as plt

NETWORKS = [name for pipeline in PIPELINES.values() for name in (*pipeline.networks, *(["qat"] * pipeline.qat))]
COLOURED = (*NETWORKS, "bag_of_words")
MARKERS = {"PyTorch": "o", "ONNX Runtime": "s", "OpenVINO": "^", "bag of words": "D"}
LATENCY_KEYS = {"real": "latency_ms", "padded": "latency_padded_ms"}
INK = "#1b1f24"  # of all text and lines; the page replaces it by its own, which follows the reader's light or dark
STYLE = {
    **dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), INK),
    "svg.fonttype": "none",  # text that can be found and copied
    "svg.hashsalt": "fincompress",  # the same figure gives the same file
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "axes.axisbelow": True,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 10,
}


GROUPS = ("phenomenon", "source", "length", "class")


def figures(results: Results, folder: Path, labels: list[str], latency: str) -> dict[str, Figure]:
    """Every figure of a run by its name, in the order they are drawn.

    Args:
        folder: where the stages left `tables/`, `training/` and `pruning/`.
        labels: in id order.
        latency: which one the Pareto plot shows, `real` or `padded`.
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
        "confusion_matrices": confusion_matrices(pd.read_csv(tables / "predictions.csv", dtype=str), labels),
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


def colours(variants: list[str]) -> dict[str, tuple]:
    """One colour a network, the same in every figure, so that its conversions are seen to belong together."""
    return {name: plt.get_cmap("tab10")(COLOURED.index(network_of(name))) for name in variants}


def f1_against_latency(records: dict[str, dict], protocol: str) -> Figure:
    """Macro F1 over median latency, bubbles as large as the models on disk, the Pareto front drawn and labelled."""
    key = LATENCY_KEYS[protocol]
    front = pareto_front(records, key)
    palette = colours(list(records))
    figure, axes = plt.subplots(figsize=(10.5, 5.6))
    points = {name: (record[key]["p50"], record["macro_f1"]) for name, record in records.items()}
    areas = {name: 40 + 5 * record["size_mb"] for name, record in records.items()}  # square points
    axes.plot(*zip(*(points[name] for name in front), strict=True), color="0.55", linestyle="--", zorder=1)
    for name in sorted(records, key=areas.get, reverse=True):  # small bubbles over large ones
        style = {"color": palette[name], "marker": MARKERS[runtime_name(name)], "s": areas[name]}
        axes.scatter(*points[name], **style, alpha=0.75, edgecolor=INK, zorder=2)
    axes.set_xscale("log")
    axes.margins(0.22, 0.25)
    _plain_ticks(axes, "x")
    lengths = "real sentence lengths" if protocol == "real" else "padded"
    axes.set(
        xlabel=f"median latency of one sentence, ms (log scale, {lengths})",
        ylabel="test macro F1",
        title="What each variant costs and keeps",
    )
    front_line = plt.Line2D([], [], color="0.55", linestyle="--", label="Pareto front")
    _colour_and_marker_legend(axes, palette, "area: size on disk", [front_line])
    figure.canvas.draw()  # settles the layout that labels are placed in
    labels = {name: f"{name}\n{records[name]['size_mb']:.3g} MB" for name in front}
    _place_labels(axes, points, areas, labels)
    return figure


def _colour_and_marker_legend(
    axes: Axes, palette: dict[str, tuple], title: str = "", further: list[plt.Line2D] | None = None
) -> None:
    """Colours are networks, markers runtimes."""
    variants = list(palette)
    colour_of = {network_of(name): palette[name] for name in variants}
    networks = {name: colour_of[name] for name in sorted(colour_of, key=COLOURED.index)}
    runtimes = [runtime for runtime in MARKERS if runtime in map(runtime_name, variants)]
    handles = [
        *(plt.Line2D([], [], color=colour, linewidth=6, label=network) for network, colour in networks.items()),
        *(plt.Line2D([], [], color="0.4", marker=MARKERS[name], linestyle="", label=name) for name in runtimes),
        *(further or []),
    ]
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, title=title)


def _plain_ticks(axes: Axes, which: str) -> None:
    """Ticks of a log axis as plain numbers at 1, 2 and 5."""
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(matplotlib.ticker.LogLocator(subs=(1, 2, 5)))
    axis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(matplotlib.ticker.NullFormatter())


def _place_labels(axes: Axes, points: dict[str, tuple], areas: dict[str, float], labels: dict[str, str]) -> None:
    """Write each label at the side of its point where it overlaps least with bubbles and earlier labels.

    The left comes first: nothing is both faster and better than a point of the front, so no other point is near there.
    """
    taken = []
    for name, (x, y) in zip(points, axes.transData.transform(np.array(list(points.values()))), strict=True):
        side = areas[name] ** 0.5 * axes.figure.dpi / 72  # pixels
        taken.append(matplotlib.transforms.Bbox.from_bounds(x - side / 2, y - side / 2, side, side))
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


def _shared_area(a, b) -> float:
    width = min(a.x1, b.x1) - max(a.x0, b.x0)
    height = min(a.y1, b.y1) - max(a.y0, b.y0)
    return max(0.0, width) * max(0.0, height)


def learning_curves(folders: dict[str, Path]) -> Figure:
    """Loss and validation macro F1 by epoch of every training stage; a stage that did not train has no line."""
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
    """Validation macro F1 against the heads removed, right after a removal and after the recovery.

    Args:
        rounds: stage -> its rounds.csv.
        variants: all variants, from which colours are taken.
    """
    palette = colours(variants)
    figure, axes = plt.subplots(figsize=(8, 4.5))
    longest_first = sorted(rounds, key=lambda name: -len(rounds[name]))
    for width, name in zip(range(2 * len(rounds), 0, -2), longest_first, strict=True):
        table, colour = rounds[name], palette[name]  # stages share their first rounds: the later ones are drawn thinner
        share, recovered = 100 * table["head_sparsity"], table["val_macro_f1_recovered"]
        pruned = table["val_macro_f1_pruned"]
        axes.vlines(share, pruned, recovered, color=colour, linestyle=":", linewidth=width / 2)
        style = {"color": colour, "linewidth": width, "markersize": 4 + width}
        if recovered.equals(pruned):  # without epochs of recovery
            axes.plot(share, pruned, "v-", label=f"{name}, not recovered", **style)
            continue
        axes.plot(share, recovered, "o-", label=f"{name}, recovered", **style)
        axes.plot(share[1:], pruned[1:], "v", alpha=0.6, label=f"{name}, just pruned", **style | {"linewidth": 0})
    axes.axhline(recovered.iloc[0], color="0.5", linewidth=1, linestyle="--", label="before pruning")
    axes.set(title="What each round of pruning costs", xlabel="heads removed, %", ylabel="validation macro F1")
    axes.legend(frameon=False, fontsize=9)
    return figure


def sparsity(tables: dict[str, pd.DataFrame]) -> Figure:
    """What pruning left of each kind of layer: parameters at work, set to zero, and removed for good.

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
    panels.flat[0].invert_yaxis()  # of all panels: they share it
    panels.flat[-1].legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False)
    return figure


def head_importance(tables: dict[str, pd.DataFrame]) -> Figure:
    """Each head's score when it was last scored, a layer a row; a removed one is crossed out and shows its round.

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


def latency_distributions(samples: pd.DataFrame) -> Figure:
    """Every timed run of every variant, at real lengths and padded; a bar at the median."""
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
    """Latency over length at batch 1, and throughput over batch size; a bar from the lowest to the highest round.

    Args:
        lengths, batches: latency_by_length.csv and throughput_by_batch.csv.
    """
    lengths, batches = (table[table["variant"] != "bag_of_words"] for table in (lengths, batches))  # off both scales
    palette = colours(list(lengths["variant"].unique()))
    figure, panels = plt.subplots(1, 2, figsize=(13, 5))
    for axes, table, x, y in ((panels[0], lengths, "length", "p50_ms"), (panels[1], batches, "batch_size", "per_s")):
        for name, part in table.groupby("variant"):
            spread = [part[y] - part["low"], part["high"] - part[y]]
            style = {"color": palette[name], "marker": MARKERS[runtime_name(name)], "markersize": 5, "linewidth": 1}
            axes.errorbar(part[x], part[y], np.maximum(spread, 0), elinewidth=0.7, alpha=0.8, **style)
        axes.set(xscale="log", yscale="log")
        axes.xaxis.set_major_locator(matplotlib.ticker.FixedLocator(sorted(table[x].unique())))
        axes.xaxis.set_major_formatter(matplotlib.ticker.FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_locator(matplotlib.ticker.NullLocator())
        _plain_ticks(axes, "y")
    panels[0].set(title="Latency by length (batch 1)", xlabel="word pieces", ylabel="median ms")
    panels[1].set(title="Throughput by batch size", xlabel="sentences in a batch", ylabel="sentences a second")
    _colour_and_marker_legend(panels[1], palette)
    return figure


def f1_changes(records: dict[str, dict], margin: float) -> Figure:
    """Change of test macro F1 against the reference with its 95 % interval, in points, the best on top.

    Args:
        margin: macro F1 that may be lost; a line is drawn there.
    """
    reference = reference_of(records)
    names = sorted(
        (name for name in records if name != reference), key=lambda name: records[name]["macro_f1_change"]["value"]
    )
    palette = colours(names)
    figure, axes = plt.subplots(figsize=(9, 1.2 + 0.3 * len(names)))
    for row, name in enumerate(names):
        value, low, high = (100 * records[name]["macro_f1_change"][key] for key in ("value", "low", "high"))
        axes.plot([low, high], [row, row], color=palette[name], linewidth=3, alpha=0.6, solid_capstyle="butt")
        axes.plot(value, row, MARKERS[runtime_name(name)], color=palette[name], markeredgecolor=INK)
    axes.axvline(0, color=INK, linewidth=1)
    axes.axvline(-100 * margin, color="crimson", linewidth=1, linestyle="--", label=f"{-100 * margin:+.1f} points")
    axes.set_yticks(range(len(names)), names)
    axes.set(title=f"Change against {reference}, 95 % interval", xlabel="points of test macro F1")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    return figure


def reliability_diagrams(calibration: pd.DataFrame, records: dict[str, dict]) -> Figure:
    """Accuracy over confidence, a panel a variant; dots as large as the rows they stand for.

    Args:
        calibration: calibration.csv.
    """
    figure, panels = _panels(len(records), 2.6, 2.6)
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


def _panels(count: int, width: float, height: float, columns: int = 4) -> tuple[Figure, list[Axes]]:
    """A grid of panels of a size in inches, of which `count` are in use."""
    columns = min(columns, count)
    rows = -(-count // columns)
    figure, panels = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    for axes in panels.flat[count:]:
        axes.set_axis_off()
    return figure, list(panels.flat[:count])


def confusion_matrices(predictions: pd.DataFrame, labels: list[str]) -> Figure:
    """A confusion matrix a variant: share of each true label's rows (colour) and their number."""
    variants = [column for column in predictions.columns if column not in ("id", "label")]
    figure, panels = _panels(len(variants), 3.6, 3.4)
    for axes, name in zip(panels, variants, strict=True):
        counts = confusion_matrix(predictions["label"], predictions[name], labels=labels)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        _heat_map(axes, shares, counts.astype(str), labels, labels, "Blues", (0, 1))
        axes.set(title=name, xlabel="predicted", ylabel="true")
    return figure


def f1_by_group(breakdown: pd.DataFrame, variants: list[str], group: str) -> Figure:
    """F1 of every variant by class (that class's), source, sentence length or phenomenon (macro).

    Lengths keep their order; of the others, what is hardest for the first variant comes first.

    Args:
        group: class, source, length or phenomenon.
    """
    rows = breakdown.query("group == @group")
    table = rows.pivot(index="value", columns="variant", values="f1")[variants]
    order = rows["value"].unique() if group == "length" else table[variants[0]].sort_values().index
    table = table.loc[order].T
    counts = rows.drop_duplicates("value").set_index("value")["rows"]
    figure, axes = plt.subplots(figsize=(max(5.0, 2.2 + 1.05 * table.shape[1]), 1.6 + 0.34 * len(variants)))
    texts = table.map(lambda value: f"{value:.2f}").to_numpy()
    names = [f"{value}\n({counts[value]})" for value in table.columns]
    _heat_map(axes, table.to_numpy(), texts, names, variants, "RdYlGn", (0, 1))
    axes.set(title=f"{'F1' if group == 'class' else 'Macro F1'} by {group} (test rows)")
    return figure


def _heat_map(axes: Axes, values, texts, columns, rows, colour_map: str, limits: tuple[float, float]) -> None:
    axes.imshow(values, cmap=colour_map, vmin=limits[0], vmax=limits[1], aspect="auto")
    dark = matplotlib.colormaps[colour_map]
    for row, column in np.ndindex(*np.shape(values)):
        red, green, blue, _ = dark((values[row, column] - limits[0]) / (limits[1] - limits[0]))
        shade = "black" if 0.3 * red + 0.59 * green + 0.11 * blue > 0.5 else "white"
        axes.text(column, row, texts[row][column], ha="center", va="center", color=shade, fontsize=9)
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(rows)), rows)
    axes.grid(visible=False)
    axes.spines[:].set_visible(False)
