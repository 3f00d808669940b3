"""ship: the models that are handed on, each in a folder of its own with its card."""

import shutil
from pathlib import Path

from fincompress import stage
from fincompress.cards import card
from fincompress.files import atomic_folder, read_json
from fincompress.params import load_params
from fincompress.results import load_results
from fincompress.variants import current_pipeline, saved_variants


def main(
    models: Path = Path("models"),
    metrics: Path = Path("metrics"),
    tables: Path = Path("plots/tables"),
    out: Path = Path("models/shipped"),
) -> None:
    """Write OUT/<variant> for every variant that params.yaml names: a copy of its files, and README.md."""
    params = load_params("prepare.source", "report.margin", "report.price_per_core_hour", "ship")
    results = load_results(metrics, tables, params)
    data = read_json(metrics / "about" / "data.json")
    with atomic_folder(out) as folder:
        for variant in saved_variants(models, current_pipeline()):
            if variant.name in params.ship.variants:
                shutil.copytree(variant.folder, folder / variant.name)
                text = card(variant, results, data, params.source, params.ship.license)
                (folder / variant.name / "README.md").write_text(text, encoding="utf-8")
                print(f"ship: {out / variant.name}")


if __name__ == "__main__":
    stage.run(main)
