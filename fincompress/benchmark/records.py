"""What `metrics/variants/<variant>.json` says: a flat record each, all with the same keys; and the tables behind it."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

from fincompress.benchmark.calibration import brier, expected_calibration_error, reliability
from fincompress.benchmark.flips import KINDS, flip_kinds, flip_table, reversals
from fincompress.benchmark.latency import percentiles
from fincompress.benchmark.protocol import Measurements
from fincompress.benchmark.rounds import PROTOCOLS
from fincompress.benchmark.significance import bootstrap_intervals, mcnemar_p
from fincompress.core.files import folder_bytes, read_json
from fincompress.core.runtimes import RUNTIMES, converted_name
from fincompress.core.sections import EvaluateParams
from fincompress.core.variants import FLOOR, Variant, reference_of
from fincompress.networks.scores import breakdown, scores
from fincompress.runtimes.base import probabilities


def count_parameters(checkpoint: Path) -> int:
    """Numbers stored in `checkpoint/model.safetensors`; tied weights count once, removed ones not at all."""
    with safe_open(checkpoint / "model.safetensors", framework="numpy") as tensors:
        return sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118, no mapping


def parameter_counts(variants: list[Variant], models: Path) -> dict[str, int]:
    """Network -> its parameters; one trained in int8 has those of the network it started from.

    Args:
        models: where the trained networks are; the floor is where its variant is.
    """
    counts = {}
    for variant in variants:
        checkpoint = variant.folder if variant.network == FLOOR else models / variant.network
        if not (checkpoint / "model.safetensors").is_file():
            checkpoint = models / read_json(checkpoint / "training.json")["source"]
        counts[variant.network] = count_parameters(checkpoint)
    return counts


def predictions(measured: Measurements, split: str) -> dict[str, np.ndarray]:
    """Each variant's predicted label names, [rows]."""
    return {
        name: np.array(measured.labels[name])[logits[split].argmax(axis=1)] for name, logits in measured.logits.items()
    }


def variant_metrics(
    variants: list[Variant],
    measured: Measurements,
    splits: dict[str, pd.DataFrame],
    parameters: dict[str, int],
    params: EvaluateParams,
    seed: int,
) -> dict[str, dict]:
    """Quality, behaviour, size and speed of every variant.

    Args:
        splits: the `val` and `test` rows that were scored.
        parameters: network -> its parameters.
    """
    quality = quality_metrics(measured, splits, params, seed)
    cost = cost_metrics(variants, measured)
    return {
        variant.name: {
            **quality[variant.name],
            "parameters": parameters[variant.network],
            "size_mb": round(folder_bytes(variant.shipped or variant.folder) / 1e6, 3),
            **cost[variant.name],
        }
        for variant in variants
    }


def quality_metrics(
    measured: Measurements, splits: dict[str, pd.DataFrame], params: EvaluateParams, seed: int
) -> dict[str, dict]:
    """Scores of every variant, how sure they are, its calibration, and what it does otherwise than the teacher."""
    predicted = {split: predictions(measured, split) for split in splits}
    labels = {split: rows["label"].to_numpy() for split, rows in splits.items()}
    reference, opposites = predicted["test"][reference_of(predicted["test"])], params.opposite_labels
    table = {}
    for name, own in predicted["test"].items():
        likely = probabilities(measured.logits[name]["test"])
        kinds = flip_kinds(labels["test"], own, reference)
        record = {
            **scores(labels["test"], own),
            "agreement": float((own == reference).mean()),
            "val_macro_f1": scores(labels["val"], predicted["val"][name])["macro_f1"],
            **bootstrap_intervals(labels["test"], own, reference, params.bootstrap_resamples, seed),
            "mcnemar_p": mcnemar_p(labels["test"], own, reference),
            "flips": {kind: int((kinds == kind).sum()) for kind in KINDS},
            "reversals": int(reversals(own, reference, opposites).sum()) if opposites else None,
            "ece": expected_calibration_error(reliability(labels["test"], likely, measured.labels[name])),
            "brier": brier(labels["test"], likely, measured.labels[name]),
        }
        table[name] = _rounded(record)
    return table


def cost_metrics(variants: list[Variant], measured: Measurements) -> dict[str, dict]:
    """Latency, throughput and memory of every variant, and its gains.

    `speedup` is the fp32 PyTorch teacher's padded median latency over the variant's. It is the product of two
    causes, told apart by the fp32 teacher in the variant's own runtime: `compression_gain` is that teacher's latency
    over the variant's (same runtime: what a smaller network and int8 bring), `runtime_gain` is the PyTorch
    teacher's over that teacher's (same model: what the runtime brings). Both are None where the teacher was not
    measured in the runtime. PyTorch's own int8 counts as PyTorch. `cold_start_s` is None where none was measured.

    Each variant is compared with the teacher as it was in the same rounds, that is in the variant's own group.
    """
    latency = percentiles(measured.samples)
    reference = reference_of([variant.name for variant in variants])
    in_fp32 = {reference, *(converted_name(reference, runtime, "fp32") for runtime in RUNTIMES.values())}
    bases = {variant.runtime: variant.name for variant in variants if variant.name in in_fp32}
    cold = measured.cold_starts.groupby("variant")["s"].median()

    speedups = {
        (variant.name, protocol): _speedup(measured.samples, variant.name, reference, protocol)
        for variant in variants
        for protocol in PROTOCOLS
    }

    def gain(name: str, base: str | None) -> float | None:
        return round(speedups[name, "padded"] / speedups[base, "padded"], 3) if base else None

    table = {}
    for variant in variants:
        name, base = variant.name, bases.get(RUNTIMES[variant.runtime].base)
        samples = measured.samples.query("variant == @name")
        batches = measured.throughput.query("variant == @name and batch_size == @measured.batch_size")
        table[name] = {
            "latency_ms": latency[name, "real"],
            "latency_padded_ms": latency[name, "padded"],
            "tokenise_ms": round(float(samples["encode_ms"].median()), 4),
            "disturbed_rounds": int(samples.groupby("round")["disturbed"].any().sum()),
            "throughput_per_s": round(float(batches["per_s"].median()), 1),
            "cold_start_s": round(float(cold[name]), 3) if name in cold else None,
            "speedup": gain(name, reference),
            "speedup_real": round(speedups[name, "real"], 3),
            "compression_gain": gain(name, base),
            "runtime_gain": gain(base, reference) if base else None,
            "peak_rss_mb": round(measured.peak_rss_mb[name], 1),
        }
    return table


def _speedup(samples: pd.DataFrame, name: str, reference: str, protocol: str) -> float:
    """Median latency of the reference over that of a variant, both over the rounds that the variant took part in."""
    table = samples[samples["protocol"] == protocol]
    own = table[table["variant"] == name]
    beside = table[(table["variant"] == reference) & table["round"].isin(own["round"].unique())]
    return float(beside["ms"].median() / own["ms"].median())


def _rounded(record: dict) -> dict:
    """Floats to 6 digits, also those one level down."""
    return {
        key: _rounded(value) if isinstance(value, dict) else round(value, 6) if isinstance(value, float) else value
        for key, value in record.items()
    }


def breakdown_table(measured: Measurements, test: pd.DataFrame, extra: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """`evaluation.breakdown` of every variant, with a leading `variant` column, and the groups `length` and `extra`.

    Args:
        extra: name -> rows of each further set that was scored, all of it out of domain.
    """
    lengths = length_groups(test["text"])
    tables = {}
    for name, predicted in predictions(measured, "test").items():
        further = [
            _group("length", value, test["label"].to_numpy()[rows], predicted[rows])
            for value, rows in lengths.groupby(lengths, observed=True).indices.items()
        ]
        tables[name] = [breakdown(test, predicted), pd.DataFrame(further)]
    for value, rows in extra.items():
        for name, predicted in predictions(measured, value).items():
            tables[name].append(pd.DataFrame([_group("extra", value, rows["label"].to_numpy(), predicted)]))
    tables = {name: pd.concat(parts, ignore_index=True) for name, parts in tables.items()}
    return pd.concat(tables, names=["variant"]).reset_index(level=0).round(6)


def _group(group: str, value: str, labels: np.ndarray, predicted: np.ndarray) -> dict:
    part = scores(labels, predicted)
    return {"group": group, "value": value, "rows": len(labels), "f1": part["macro_f1"], "accuracy": part["accuracy"]}


def length_groups(texts: pd.Series) -> pd.Series:
    """Each text's quartile by number of words, named by its range: `3–9 words`; an ordered categorical."""
    words = texts.str.split().str.len()
    quartile = np.searchsorted(np.unique(words.quantile([0.25, 0.5, 0.75])), words)
    spans = words.groupby(quartile).agg(["min", "max"])
    names = {key: f"{low}–{high} words" if low < high else f"{low} words" for key, low, high in spans.itertuples()}
    return pd.Series(quartile, texts.index).map(names).astype(pd.CategoricalDtype(list(names.values()), ordered=True))


def flips(measured: Measurements, test: pd.DataFrame, params: EvaluateParams) -> pd.DataFrame:
    """`benchmark.flips.flip_table` of every variant, with a leading `variant` column."""
    predicted = predictions(measured, "test")
    tables = {}
    reference = predicted[reference_of(predicted)]
    for name, own in predicted.items():
        confidence = probabilities(measured.logits[name]["test"]).max(axis=1)
        tables[name] = flip_table(test, own, reference, confidence, params.opposite_labels)
    return pd.concat(tables, names=["variant"]).reset_index(level=0)


def calibration_table(measured: Measurements, test: pd.DataFrame) -> pd.DataFrame:
    """`calibration.reliability` of every variant, with a leading `variant` column."""
    tables = {
        name: reliability(test["label"].to_numpy(), probabilities(logits["test"]), measured.labels[name])
        for name, logits in measured.logits.items()
    }
    return pd.concat(tables, names=["variant"]).reset_index(level=0).round(6)
