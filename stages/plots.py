"""plots: figures from the metrics and tables of the other stages, and the page that holds everything."""

from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from fincompress.core import stage
from fincompress.core.files import atomic_file, read_json, write_text
from fincompress.core.params import load_params
from fincompress.core.sections import PlotsParams, ReportParams
from fincompress.report import page
from fincompress.report.figures.drawing import figures
from fincompress.report.figures.style import STYLE
from fincompress.report.results import load_results

TEXTS = ("id", "label", "reference", "predicted")
"""Columns of flips.csv that hold text, even if that is a number."""


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml."""

    plots: PlotsParams
    report: ReportParams


def main(data: Path = Path("data"), metrics: Path = Path("metrics"), folder: Path = Path("plots")) -> None:
    """Write FOLDER/figures/*.png and FOLDER/report.html."""
    params = load_params(Needs)
    results = load_results(metrics, folder / "tables", params.report)
    labels = read_json(data / "labels.json")["labels"]
    test = pd.read_csv(data / "test.csv", dtype=str, keep_default_na=False)
    pictures = {}
    with plt.rc_context(STYLE):
        for name, figure in figures(results, folder, labels, params.plots.latency).items():
            with atomic_file(folder / "figures" / f"{name}.png") as path:
                figure.savefig(path, dpi=params.plots.dpi)
            pictures[name] = page.svg(figure)
            plt.close(figure)
    flips = pd.read_csv(folder / "tables" / "flips.csv", dtype={name: str for name in TEXTS}, keep_default_na=False)
    about = read_json(metrics / "about" / "data.json")
    text = page.render(results, pictures, flips, test, labels, about, params.report.sentences)
    write_text(folder / "report.html", text)


if __name__ == "__main__":
    stage.run(main)
