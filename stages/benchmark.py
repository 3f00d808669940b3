"""benchmark: quality, size and speed of every variant, in one run on one machine."""

import tempfile
from pathlib import Path

from fincompress import stage
from fincompress.bag_of_words import BagOfWords
from fincompress.benchmark import Variant, environment, measure
from fincompress.dataset import read_labels, read_split
from fincompress.export import to_onnx
from fincompress.files import atomic_file, write_json
from fincompress.metrics import breakdown_table, count_parameters, predictions, round_medians, variant_metrics
from fincompress.params import load_params

NETWORKS = ("teacher", "kd", "ikd", "prune30", "prune50")


def main(
    data: Path = Path("data"),
    models: Path = Path("models"),
    metrics: Path = Path("metrics"),
    tables: Path = Path("plots/tables"),
) -> None:
    """Write METRICS/<variant>.json, the machine's record beside them, and the raw TABLES."""
    params = load_params("seed", "benchmark")
    splits = {name: read_split(data, name) for name in ("val", "test")}
    with tempfile.TemporaryDirectory() as temporary:
        variants = build_variants(data, models, Path(temporary))
        texts = {name: rows["text"].tolist() for name, rows in splits.items()}
        measured = measure(variants, texts, params.benchmark, params.seed)
        originals = [variant for variant in variants if variant.runtime != "onnxruntime"]
        parameters = {variant.network: count_parameters(variant.folder) for variant in originals}
        results = variant_metrics(variants, measured, splits, parameters)
    for name, record in results.items():
        write_json(metrics / f"{name}.json", record)
    write_json(metrics / "about" / "environment.json", environment(params.benchmark.threads))
    test = splits["test"]
    for name, table in {
        "latency_samples": measured.samples[["variant", "protocol", "round", "ms", "encode_ms", "disturbed"]].round(4),
        "latency_rounds": round_medians(measured.samples),
        "breakdown": breakdown_table(measured, test),
        "predictions": test[["id", "label"]].assign(**predictions(measured, "test")),
    }.items():
        with atomic_file(tables / f"{name}.csv") as path:
            table.to_csv(path, index=False, lineterminator="\n")


def build_variants(data: Path, models: Path, folder: Path) -> list[Variant]:
    """Every network in PyTorch and, so that the runtime's gain shows apart, in ONNX Runtime; and the floor."""
    variants = []
    for network in NETWORKS:
        variants.append(Variant(network, network, "torch", models / network))
        to_onnx(models / network, folder / network)
        variants.append(Variant(f"{network}_ort_fp32", network, "onnxruntime", folder / network))
    BagOfWords.fit(read_split(data, "train"), read_labels(data)).save(folder / "bag_of_words")
    variants.append(Variant("bag_of_words", "bag_of_words", "bag_of_words", folder / "bag_of_words"))
    return variants


if __name__ == "__main__":
    stage.run(main)
