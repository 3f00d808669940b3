"""Everything that a run left on disk: records, tables, environment, and what follows from them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pandas as pd

from fincompress.benchmark.latency import TOLD_APART, not_told_from
from fincompress.core.errors import InputError
from fincompress.core.files import read_json
from fincompress.core.params import load_params
from fincompress.core.registry import PIPELINES
from fincompress.core.sections import ReportParams
from fincompress.core.variants import reference_of
from fincompress.report.selection import fastest_within

METRICS, TABLES = Path("metrics"), Path("plots/tables")
SHOWN = {
    "macro_f1_change",
    "mcnemar_p",
    "flips",
    "reversals",
    "ece",
    "brier",
    "latency_ms",
    "forward_ms",
    "latency_padded_ms",
    "throughput_per_s",
    "cold_start_s",
    "speedup_padded",
    "int8_peak_share",
}
"""Keys of a record that tables and pages need; a record from an older release may lack them."""


@dataclass(frozen=True)
class Needs:
    """What tables read from params.yaml if the caller has not read it for them."""

    report: ReportParams


class Judgement(Protocol):
    """The keys of the section `report` that turn measurements into verdicts and costs."""

    @property
    def margin(self) -> float: ...
    @property
    def price_per_core_hour(self) -> float: ...


@dataclass(frozen=True)
class Results:
    """Everything that a run left, as tables and pages show it."""

    records: dict[str, dict]  # variant -> metrics/variants/<variant>.json, the reference first, then best on validation
    reference: str  # the variant that all others are compared with
    best: str  # the fastest variant that loses no more than the margin on validation
    environment: dict  # metrics/about/environment.json
    models: dict  # metrics/about/models.json
    examples: dict[str, dict[str, dict]]  # metrics/about/examples.json
    breakdown: pd.DataFrame
    ties: list[str] | None  # variants whose latency at real lengths cannot be told from that of `best`, see `ties_with`
    spread: dict[str, dict]  # variant -> score -> what seeds.json says; empty if that is of another run
    params: Judgement


def load_results(metrics: Path = METRICS, tables: Path = TABLES, params: Judgement | None = None) -> Results:
    """Read what the last `dvc repro` left.

    Raises:
        InputError: a file is missing or malformed.
    """
    records, about = load_metrics(metrics), metrics / "about"
    breakdown = _table(tables / "breakdown.csv")
    measured = set(breakdown["variant"])
    for name, record in records.items():
        if name not in measured:
            raise InputError(
                f"{metrics}/variants/{name}.json: of a variant that the last benchmark did not measure; delete the file"
            )
        if missing := SHOWN - record.keys():
            keys = ", ".join(sorted(missing))
            raise InputError(f"{metrics}/variants/{name}.json: no {keys}; `dvc repro benchmark` writes it anew")
    judgement = params or load_params(Needs).report
    best = fastest_within(records, judgement.margin)
    return Results(
        records,
        reference_of(records),
        best,
        _json(about / "environment.json"),
        _json(about / "models.json"),
        _json(about / "examples.json"),
        breakdown,
        ties_with(best, _table(tables / "latency_rounds.csv")),
        matching_spread(_json(seeds) if (seeds := about / "seeds.json").is_file() else {}, records),
        judgement,
    )


def ties_with(best: str, rounds: pd.DataFrame) -> list[str] | None:
    """What `not_told_from` says of a variant; None where its rounds are too few to tell it from any of the others.

    Args:
        rounds: the content of plots/tables/latency_rounds.csv.
    """
    count = rounds.loc[rounds["variant"] == best, "round"].nunique()
    others = rounds["variant"].nunique() - 1
    if others and 2 * 0.5**count > TOLD_APART / others:  # the p-value of being the faster in every round
        return None
    return not_told_from(rounds, "real", best)


def load_metrics(folder: Path = METRICS) -> dict[str, dict]:
    """Variant -> its record: the reference first, then by validation macro F1, best first.

    Raises:
        InputError: there is no record of the reference, or one cannot be read.
    """
    records = {path.stem: _json(path) for path in (folder / "variants").glob("*.json")}
    if not any(pipeline.reference in records for pipeline in PIPELINES.values()):
        names = " or ".join(f"{pipeline.reference}.json" for pipeline in PIPELINES.values())
        raise InputError(f"{folder}/variants: no {names}; `dvc repro benchmark` writes it")
    reference = reference_of(records)
    for name, record in records.items():
        for key in ("macro_f1", "val_macro_f1"):
            if not isinstance(record.get(key), int | float):
                raise InputError(
                    f"{folder}/variants/{name}.json: no number under `{key}`; `dvc repro benchmark` writes it"
                )
    return dict(sorted(records.items(), key=lambda item: (item[0] != reference, -item[1]["val_macro_f1"], item[0])))


def _table(path: Path) -> pd.DataFrame:
    """A CSV file on disk."""
    try:
        return pd.read_csv(path, keep_default_na=False)
    except (FileNotFoundError, pd.errors.EmptyDataError):
        raise InputError(f"{path}: missing or empty; `dvc repro benchmark` writes it") from None


def _json(path: Path) -> dict:
    """A JSON object on disk."""
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise InputError(f"{path}: not found; `dvc repro` or `git checkout` brings it back") from None
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); `git checkout {path}` brings it back") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected an object, found {type(content).__name__}")
    return content


def matching_spread(content: dict, records: dict[str, dict]) -> dict[str, dict]:
    """`variants` of what `fincompress seeds` wrote, if that belongs to the same run as `records`; otherwise nothing.

    It is where each variant's scores are those of the first seed: the same commit and params give the same ones. Those
    that were not measured this time are left out.
    """
    variants = {name: spread for name, spread in content.get("variants", {}).items() if name in records}
    same = all(
        abs(records[name][score] - spread[score]["values"][0]) < 1e-6
        for name, spread in variants.items()
        for score in spread
    )
    return variants if same else {}


def cost_per_million(record: dict, environment: dict, price_per_core_hour: float) -> float:
    """What a million sentences cost in batches that keep all threads of the benchmark busy."""
    return price_per_core_hour * environment["threads"] * 1e6 / record["throughput_per_s"] / 3600


def pareto_front(records: dict[str, dict], latency: str = "latency_ms") -> list[str]:
    """Variants that no other beats in both validation macro F1 and median latency, fastest first."""
    front, best = [], float("-inf")
    for name, record in sorted(records.items(), key=lambda item: (item[1][latency]["p50"], -item[1]["val_macro_f1"])):
        if record["val_macro_f1"] > best:
            front.append(name)
            best = record["val_macro_f1"]
    return front
