"""What `metrics/<variant>.json` says: one flat record a variant, the same keys in each."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

from fincompress.benchmark import Measurements, Variant
from fincompress.evaluation import breakdown, scores
from fincompress.files import folder_bytes

REFERENCE = "teacher"
FP32_TEACHERS = ("teacher", "teacher_ort_fp32", "teacher_ov_fp32")  # one a runtime
PERCENTILES = (50, 95, 99)


def count_parameters(checkpoint: Path) -> int:
    """Numbers stored in `checkpoint/model.safetensors`; tied weights count once, removed ones not at all."""
    with safe_open(checkpoint / "model.safetensors", framework="numpy") as tensors:
        return sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118, no mapping


def predictions(measured: Measurements, split: str) -> dict[str, np.ndarray]:
    """Each variant's predicted label names, [rows]."""
    return {
        name: np.array(measured.labels[name])[logits[split].argmax(axis=1)] for name, logits in measured.logits.items()
    }


def variant_metrics(
    variants: list[Variant], measured: Measurements, splits: dict[str, pd.DataFrame], parameters: dict[str, int]
) -> dict[str, dict]:
    """Quality, size and speed of every variant.

    `speedup` is the fp32 PyTorch teacher's padded median latency over the variant's. It is the product of two
    causes, told apart by the fp32 teacher in the variant's own runtime: `compression_gain` is that teacher's latency
    over the variant's (same runtime: what a smaller network and int8 bring), `runtime_gain` is the PyTorch
    teacher's over that teacher's (same model: what the runtime brings). Both are None where the teacher was not
    measured in the runtime. PyTorch's own int8 counts as PyTorch.

    Args:
        splits: the `val` and `test` rows that were scored.
        parameters: network -> its parameters.
    """
    latency = _percentiles(measured.samples)
    predicted = {split: predictions(measured, split) for split in splits}
    bases = {variant.runtime: variant.name for variant in variants if variant.name in FP32_TEACHERS}

    def ratio(name: str | None, own: str | None, protocol: str = "padded") -> float | None:
        if name is None or own is None:
            return None
        return round(latency[name, protocol]["p50"] / latency[own, protocol]["p50"], 3)

    table = {}
    for variant in variants:
        name, base = variant.name, bases.get(variant.runtime.removesuffix("_int8"))
        test = scores(splits["test"]["label"].to_numpy(), predicted["test"][name])
        val = scores(splits["val"]["label"].to_numpy(), predicted["val"][name])
        throughput = measured.throughput.query("variant == @name")["per_s"]
        table[name] = {
            "macro_f1": round(test["macro_f1"], 6),
            "accuracy": round(test["accuracy"], 6),
            "agreement": round(float((predicted["test"][name] == predicted["test"][REFERENCE]).mean()), 6),
            "val_macro_f1": round(val["macro_f1"], 6),
            "parameters": parameters[variant.network],
            "size_mb": round(folder_bytes(variant.shipped or variant.folder) / 1e6, 3),
            "latency_ms": latency[name, "real"],
            "latency_padded_ms": latency[name, "padded"],
            "tokenise_ms": round(float(measured.samples.query("variant == @name")["encode_ms"].median()), 4),
            "throughput_per_s": round(float(throughput.median()), 1),
            "speedup": ratio(REFERENCE, name),
            "speedup_real": ratio(REFERENCE, name, "real"),
            "compression_gain": ratio(base, name),
            "runtime_gain": ratio(REFERENCE, base),
            "peak_rss_mb": round(measured.peak_rss_mb[name], 1),
        }
    return table


def _percentiles(samples: pd.DataFrame) -> dict[tuple[str, str], dict[str, float]]:
    """(variant, protocol) -> percentiles in ms, over all rounds pooled."""
    return {
        key: {f"p{q}": round(float(np.percentile(ms, q)), 4) for q in PERCENTILES}
        for key, ms in samples.groupby(["variant", "protocol"])["ms"]
    }


def round_medians(samples: pd.DataFrame) -> pd.DataFrame:
    """Median latency of every variant, protocol and round, and whether the round was disturbed.

    The spread over rounds tells how far two variants can be told apart.
    """
    grouped = samples.groupby(["variant", "protocol", "round"])
    return grouped.agg(p50_ms=("ms", "median"), disturbed=("disturbed", "any")).round(4).reset_index()


def breakdown_table(measured: Measurements, test: pd.DataFrame, extra: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """`evaluation.breakdown` of every variant, with a leading `variant` column, and a group `extra`.

    Args:
        extra: name -> rows of each further set that was scored, all of it out of domain.
    """
    tables = {name: [breakdown(test, predicted)] for name, predicted in predictions(measured, "test").items()}
    for value, rows in extra.items():
        for name, predicted in predictions(measured, value).items():
            part = scores(rows["label"].to_numpy(), predicted)
            row = {"group": "extra", "value": value, "rows": len(rows)}
            tables[name].append(pd.DataFrame([{**row, "f1": part["macro_f1"], "accuracy": part["accuracy"]}]))
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return pd.concat(tables, names=["variant"]).reset_index(level=0).round(6)
