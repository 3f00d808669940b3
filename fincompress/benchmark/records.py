"""What `metrics/variants/<variant>.json` says: a flat record each, all with the same keys; and the tables behind it."""

from pathlib import Path

import numpy as np
import pandas as pd
from safetensors import safe_open

from fincompress.benchmark.calibration import brier, expected_calibration_error, reliability
from fincompress.benchmark.flips import KINDS, flip_kinds, flip_table, reversals
from fincompress.benchmark.int8_peak import is_int8, linear_operations
from fincompress.benchmark.latency import Timing, median_over, quantiles
from fincompress.benchmark.protocol import Measurements
from fincompress.benchmark.rounds import PROTOCOLS
from fincompress.benchmark.significance import bootstrap_intervals, mcnemar_p
from fincompress.core.examples import EXAMPLES
from fincompress.core.files import folder_bytes, read_json
from fincompress.core.runtimes import RUNTIMES, converted_name
from fincompress.core.sections import EvaluateParams
from fincompress.core.variants import FLOOR, Variant, reference_of
from fincompress.networks.scores import breakdown, scores
from fincompress.runtimes.base import probabilities
from fincompress.runtimes.registry import weights_digest

EXAMPLES_SPLIT = "core/examples"
"""What `EXAMPLES` are called among the splits that are scored; no file of `evaluate.extra` has a slash in its name."""


def count_parameters(checkpoint: Path) -> int:
    """Numbers stored in `checkpoint/model.safetensors`; tied weights count once, removed ones not at all."""
    with safe_open(checkpoint / "model.safetensors", framework="numpy") as tensors:
        return sum(int(np.prod(tensors.get_slice(name).get_shape())) for name in tensors.keys())  # noqa: SIM118, no mapping


def parameter_counts(variants: list[Variant], models: Path) -> dict[str, int]:
    """Network -> its parameters; one trained in int8 has those of the network it started from.

    Args:
        models: where the trained networks are; the floor is where its variant is.
    """
    return {
        variant.network: count_parameters(
            variant.folder if variant.network == FLOOR else trained_checkpoint(variant, models)
        )
        for variant in variants
    }


def trained_checkpoint(variant: Variant, models: Path) -> Path:
    """The checkpoint that holds a variant's network as trained; of one trained in int8, that which it started from."""
    checkpoint = models / variant.network
    if (checkpoint / "model.safetensors").is_file():
        return checkpoint
    return models / read_json(checkpoint / "training.json")["source"]


def kept_weights(variants: list[Variant], models: Path) -> dict[str, str]:
    """Variant that is kept in `models` -> a hash of its weights, by which an export finds its record."""
    kept = [variant for variant in variants if variant.folder.is_relative_to(models) and not variant.shipped]
    return {variant.name: weights_digest(variant.folder, variant.runtime) for variant in kept}


def int8_operations(variants: list[Variant], models: Path, length: int) -> dict[str, int]:
    """Variant -> the operations that it does in int8 for a text of `length` word pieces; none for those in fp32."""
    return {
        variant.name: linear_operations(
            trained_checkpoint(variant, models), length, first_alone=variant.runtime == "onnxruntime"
        )
        for variant in variants
        if is_int8(variant)
    }


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
    operations: dict[str, int],
    params: EvaluateParams,
    seed: int,
) -> dict[str, dict]:
    """Quality, behaviour, size and speed of every variant.

    Args:
        splits: the `val` and `test` rows that were scored.
        parameters: network -> its parameters.
        operations: what `int8_operations` returns for the padded length.
    """
    quality = quality_metrics(measured, splits, params, seed)
    cost = cost_metrics(variants, measured, operations, seed)
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


def cost_metrics(
    variants: list[Variant], measured: Measurements, operations: dict[str, int], seed: int
) -> dict[str, dict]:
    """Latency, throughput and memory of every variant, and its gains, each with its 95 % interval over rounds.

    Latencies and gains are from text to label, at real lengths; `forward_ms` is the classifier alone, and `_padded` is
    of sentences padded to one length. `speedup` is the fp32 PyTorch teacher's median over the variant's. It is the
    product of two causes, told apart by the fp32 teacher in the variant's own runtime: `compression_gain` is that
    teacher's latency over the variant's (same runtime: what a smaller network and int8 bring), `runtime_gain` is the
    PyTorch teacher's over that teacher's (same model: what the runtime brings). Both are None where the teacher was not
    measured in the runtime. PyTorch's own int8 counts as PyTorch. `cold_start_s` is None where none was measured, and
    `int8_peak_share` for what is not int8.

    Each variant is compared with the teacher as it was in the same rounds, that is in the variant's own group.

    Args:
        operations: variant in int8 -> its operations for a padded sentence.
    """
    reference = reference_of([variant.name for variant in variants])
    in_fp32 = {reference, *(converted_name(reference, runtime, "fp32") for runtime in RUNTIMES.values())}
    bases = {variant.runtime: variant.name for variant in variants if variant.name in in_fp32}
    cold = measured.cold_starts.groupby("variant")["s"].median()
    tables = dict(list(measured.samples.groupby(["protocol", "variant"])))
    speedups = {
        (protocol, variant.name): speedup(tables[protocol, reference], tables[protocol, variant.name], seed)
        for protocol in PROTOCOLS
        for variant in variants
    }
    records = {}
    for variant in variants:
        name, base = variant.name, bases.get(RUNTIMES[variant.runtime].base)
        real, padded = (tables[protocol, name] for protocol in PROTOCOLS)
        batches = measured.throughput.query("variant == @name and batch_size == @measured.batch_size")
        forward_padded = quantiles(padded, "forward_ms", seed)
        done = operations[name] / (forward_padded["p50"] / 1e3) / 1e9 if name in operations else None
        records[name] = {
            "latency_ms": quantiles(real, "ms", seed),
            "forward_ms": quantiles(real, "forward_ms", seed),
            "latency_padded_ms": quantiles(padded, "ms", seed),
            "forward_padded_ms": forward_padded,
            "tokenise_ms": round(float(real["encode_ms"].median()), 4),
            "disturbed_rounds": int(real.groupby("round")["disturbed"].any().sum()),
            "throughput_per_s": round(float(batches["per_s"].median()), 1),
            "cold_start_s": round(float(cold[name]), 3) if name in cold else None,
            **_gains(speedups, PROTOCOLS[0], name, base, ""),
            **_gains(speedups, PROTOCOLS[1], name, base, "_padded"),
            "int8_peak_share": round(done / measured.int8_peak_gops, 4) if done else None,
            "peak_rss_mb": round(measured.peak_rss_mb[name], 1),
        }
    return records


def speedup(reference: pd.DataFrame, own: pd.DataFrame, seed: int) -> Timing:
    """Median latency of the reference over that of a variant, both over the rounds that the variant took part in."""
    beside = reference[reference["round"].isin(own["round"].unique())]
    return median_over(beside, "ms", seed) / median_over(own, "ms", seed)


def _gains(
    speedups: dict[tuple[str, str], Timing], protocol: str, name: str, base: str | None, ending: str
) -> dict[str, dict[str, float] | None]:
    """`speedup`, and its two causes, each with the ending of the protocol in its key.

    Args:
        base: the fp32 reference in the variant's runtime, if that was measured.
    """
    whole = speedups[protocol, name]
    causes = (whole / speedups[protocol, base], speedups[protocol, base]) if base else (None, None)
    return {
        f"{key}{ending}": ratio and {key: round(value, 3) for key, value in _shown(ratio).items()}
        for key, ratio in zip(("speedup", "compression_gain", "runtime_gain"), (whole, *causes), strict=True)
    }


def _shown(ratio: Timing) -> dict[str, float]:
    return {"value": ratio.value, **ratio.interval()}


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


def example_answers(measured: Measurements) -> dict[str, dict[str, dict]]:
    """What each variant says to the `EXAMPLES` that documents show: text -> variant -> `label` and `confidence`.

    Nothing where the labels are others than theirs.
    """
    answers: dict[str, dict[str, dict]] = {text: {} for text in EXAMPLES}
    for name, splits in measured.logits.items():
        labels = measured.labels[name]
        if EXAMPLES_SPLIT not in splits or not set(EXAMPLES.values()) <= set(labels):
            return {}
        for text, row in zip(EXAMPLES, probabilities(splits[EXAMPLES_SPLIT]), strict=True):
            answers[text][name] = {"label": labels[int(row.argmax())], "confidence": round(float(row.max()), 3)}
    return answers


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
