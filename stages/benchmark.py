"""benchmark: quality, size and speed of every variant, in one run on one machine."""

import tempfile
from dataclasses import dataclass
from pathlib import Path

from fincompress.benchmark.comparators import make_comparators
from fincompress.benchmark.latency import by_batch, by_length, round_medians
from fincompress.benchmark.machine import environment
from fincompress.benchmark.origins import describe
from fincompress.benchmark.predictions import Predictions
from fincompress.benchmark.protocol import measure
from fincompress.benchmark.records import (
    EXAMPLES_SPLIT,
    breakdown_table,
    calibration_table,
    example_answers,
    flips,
    int8_operations,
    kept_weights,
    parameter_counts,
    predictions,
    variant_metrics,
)
from fincompress.core import stage
from fincompress.core.examples import EXAMPLES
from fincompress.core.files import atomic_folder, write_csv, write_json
from fincompress.core.params import current_pipeline, load_params
from fincompress.core.sections import BenchmarkParams, EvaluateParams
from fincompress.core.variants import chosen_variants, measured_variants
from fincompress.data.further import read_extra
from fincompress.data.prepared import read_labels, read_split

SAMPLE, TIMES = ("variant", "protocol", "round"), ("ms", "forward_ms", "encode_ms")


@dataclass(frozen=True)
class Needs:
    """What this stage reads of params.yaml."""

    seed: int
    benchmark: BenchmarkParams
    evaluate: EvaluateParams


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    metrics: Path = Path("metrics"),
    tables: Path = Path("plots/tables"),
) -> None:
    """Write METRICS/variants/<variant>.json, the machine's record in METRICS/about, and the raw TABLES."""
    params, pipeline = load_params(Needs), current_pipeline()
    splits = {name: read_split(data, name) for name in ("val", "test")}
    extra = read_extra(params.evaluate.extra, read_labels(data), data)
    with tempfile.TemporaryDirectory() as temporary:
        variants = chosen_variants(measured_variants(models, Path(temporary), pipeline), params.benchmark.variants)
        if params.benchmark.variants != "all":
            print(f"benchmark: measures {', '.join(variant.name for variant in variants)}")
        make_comparators(variants, read_split(data, "train"), read_labels(data), models)
        texts = {name: rows["text"].tolist() for name, rows in {**extra, **splits}.items()}
        texts[EXAMPLES_SPLIT] = list(EXAMPLES)
        kept = Predictions(variants, params.benchmark.threads)
        measured = measure(variants, texts, params.benchmark, params.seed, kept)
        kept.prune()
        parameters = parameter_counts(variants, models)
        operations = int8_operations(variants, models, params.benchmark.padded_length)
        results = variant_metrics(variants, measured, splits, parameters, operations, params.evaluate, params.seed)
        weights = kept_weights(variants, models)
    test = splits["test"]
    with atomic_folder(metrics / "variants") as folder:
        for name, record in results.items():
            write_json(folder / f"{name}.json", record)
    with atomic_folder(tables) as folder:
        for name, table in {
            "latency_samples": measured.samples[[*SAMPLE, *TIMES, "disturbed"]].round(4),
            "latency_rounds": round_medians(measured.samples),
            "latency_by_length": by_length(measured.lengths),
            "throughput_by_batch": by_batch(measured.throughput),
            "breakdown": breakdown_table(measured, test, extra),
            "calibration": calibration_table(measured, test),
            "flips": flips(measured, test, params.evaluate),
            "predictions": test[["id", "label"]].assign(**predictions(measured, "test")),
        }.items():
            write_csv(folder / f"{name}.csv", table)
    machine = {
        **environment(params.benchmark.threads),
        "int8_peak_gops": round(measured.int8_peak_gops, 1),
        "groups": measured.groups,
        "disturbed_turns": measured.disturbed_turns(),
    }
    write_json(metrics / "about" / "environment.json", machine)
    write_json(metrics / "about" / "examples.json", example_answers(measured))
    origins = describe(models, pipeline, sorted(set(test["source"])))
    write_json(metrics / "about" / "models.json", {**origins, "weights": weights})


if __name__ == "__main__":
    stage.run(main)
