"""ship: put the models to hand on into folders of their own, each with its card."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from fincompress.core import stage
from fincompress.core.errors import InputError
from fincompress.core.files import atomic_folder, read_json
from fincompress.core.params import Key, current_pipeline, load_params
from fincompress.core.sections import ShipParams
from fincompress.core.variants import saved_variants
from fincompress.report.cards import card
from fincompress.report.results import load_results


@dataclass(frozen=True)
class Needs:
    """What this stage reads from params.yaml; also a `results.Judgement`."""

    source: Annotated[str, Key("prepare.source")]
    margin: Annotated[float, Key("report.margin")]
    price_per_core_hour: Annotated[float, Key("report.price_per_core_hour")]
    ship: ShipParams


def main(
    models: Path = Path("models"),
    metrics: Path = Path("metrics"),
    tables: Path = Path("plots/tables"),
    out: Path = Path("models/shipped"),
) -> None:
    """Write OUT/<variant> for every variant that params.yaml names: a copy of its files, and README.md.

    Raises:
        InputError: one of them was not measured.
    """
    params = load_params(Needs)
    results = load_results(metrics, tables, params)
    if unmeasured := [name for name in params.ship.variants if name not in results.records]:
        raise InputError(
            f"params.yaml: ship.variants: {', '.join(unmeasured)} not measured, so a card would say nothing; add to "
            "benchmark.variants, or take out here"
        )
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
