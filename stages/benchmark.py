"""benchmark: quality, size and speed of every variant, in one run on one machine."""

import tempfile
from pathlib import Path

from fincompress import stage
from fincompress.bag_of_words import BagOfWords
from fincompress.benchmark import environment, measure
from fincompress.dataset import read_labels, read_split
from fincompress.export import to_onnx, to_openvino
from fincompress.files import atomic_file, read_json, write_json
from fincompress.latency import by_batch, by_length, round_medians
from fincompress.metrics import (
    breakdown_table,
    calibration_table,
    count_parameters,
    flips,
    predictions,
    variant_metrics,
)
from fincompress.outside import read_extra
from fincompress.params import load_params
from fincompress.provenance import describe
from fincompress.quantization import save_torch_int8
from fincompress.variants import Pipeline, Variant, current_pipeline, saved_variants


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    metrics: Path = Path("metrics"),
    tables: Path = Path("plots/tables"),
) -> None:
    """Write METRICS/<variant>.json, the machine's record beside them, and the raw TABLES."""
    params, pipeline = load_params("seed", "benchmark", "evaluate"), current_pipeline()
    splits = {name: read_split(data, name) for name in ("val", "test")}
    extra = read_extra(params.evaluate.extra, read_labels(data), data)
    with tempfile.TemporaryDirectory() as temporary:
        variants = build_variants(data, models, Path(temporary), pipeline)
        texts = {name: rows["text"].tolist() for name, rows in {**extra, **splits}.items()}
        measured = measure(variants, texts, params.benchmark, params.seed)
        originals = [variant for variant in variants if variant.runtime in ("torch", "bag_of_words")]
        parameters = {variant.network: count_parameters(variant.folder) for variant in originals}
        if pipeline.qat:
            parameters["qat"] = parameters[read_json(models / "qat" / "training.json")["source"]]
        results = variant_metrics(variants, measured, splits, parameters, params.evaluate, params.seed)
    for name, record in results.items():
        write_json(metrics / f"{name}.json", record)
    test = splits["test"]
    write_json(metrics / "about" / "environment.json", environment(params.benchmark.threads))
    write_json(metrics / "about" / "models.json", describe(models, pipeline.networks, sorted(set(test["source"]))))
    for name, table in {
        "latency_samples": measured.samples[["variant", "protocol", "round", "ms", "encode_ms", "disturbed"]].round(4),
        "latency_rounds": round_medians(measured.samples),
        "latency_by_length": by_length(measured.lengths),
        "throughput_by_batch": by_batch(measured.throughput),
        "breakdown": breakdown_table(measured, test, extra),
        "calibration": calibration_table(measured, test),
        "flips": flips(measured, test, params.evaluate),
        "predictions": test[["id", "label"]].assign(**predictions(measured, "test")),
    }.items():
        with atomic_file(tables / f"{name}.csv") as path:
            table.to_csv(path, index=False, lineterminator="\n")


def build_variants(data: Path, models: Path, folder: Path, pipeline: Pipeline) -> list[Variant]:
    """Every saved variant, the first network in every other format that it is compared in, and the floor."""
    variants = saved_variants(models, pipeline)
    first = pipeline.networks[0]
    to_onnx(models / first, folder / "onnx")
    variants.append(Variant(f"{first}_ort_fp32", first, "onnxruntime", folder / "onnx"))
    to_openvino(models / first, folder / "openvino")
    variants.append(Variant(f"{first}_ov_fp32", first, "openvino", folder / "openvino"))
    for network in pipeline.torch_int8:
        shipped = folder / f"{network}_torch_int8"
        save_torch_int8(models / network, shipped)
        variants.append(Variant(shipped.name, network, "torch_int8", models / network, shipped))
    BagOfWords.fit(read_split(data, "train"), read_labels(data)).save(folder / "bag_of_words")
    variants.append(Variant("bag_of_words", "bag_of_words", "bag_of_words", folder / "bag_of_words"))
    return variants


if __name__ == "__main__":
    stage.run(main)
