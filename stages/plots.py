"""plots: figures from the metrics and tables that the other stages left, and the page that holds all of it."""

from pathlib import Path

import pandas as pd
from matplotlib import pyplot as plt

from fincompress import page, plots, stage
from fincompress.files import atomic_file, read_json
from fincompress.params import load_params
from fincompress.results import load_results


def main(data: Path = Path("data"), metrics: Path = Path("metrics"), folder: Path = Path("plots")) -> None:
    """Write FOLDER/figures/*.png and FOLDER/report.html."""
    params = load_params("plots", "report")
    results = load_results(metrics, folder / "tables", params.report)
    labels = read_json(data / "labels.json")["labels"]
    test = pd.read_csv(data / "test.csv", dtype=str, keep_default_na=False)
    pictures = {}
    with plt.rc_context(plots.STYLE):
        for name, figure in plots.figures(results, folder, labels, params.plots.latency).items():
            with atomic_file(folder / "figures" / f"{name}.png") as path:
                figure.savefig(path, dpi=params.plots.dpi)
            pictures[name] = page.svg(figure)
            plt.close(figure)
    flips = pd.read_csv(folder / "tables" / "flips.csv", dtype={"id": str}, keep_default_na=False)
    about = read_json(metrics / "about" / "data.json")
    with atomic_file(folder / "report.html") as path:
        path.write_text(page.render(results, pictures, flips, test, labels, about), encoding="utf-8")


if __name__ == "__main__":
    stage.run(main)
