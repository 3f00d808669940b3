"""Step by step to the tiny student: `python -m studies.tiny_ladder`, after `dvc repro`.

Every step of the pipeline's own teacher, `ikd` and `tiny` is scored and timed in one interleaved run, beside a network
of BERT-base's shape with random weights, which says how much smaller and faster the steps are than a teacher like
FinBERT.
"""

import argparse
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from fincompress.benchmark.latency import Timing
from fincompress.benchmark.machine import environment
from fincompress.benchmark.protocol import Measurements, measure
from fincompress.benchmark.records import count_parameters, predictions, speedup
from fincompress.benchmark.significance import bootstrap_intervals
from fincompress.compress.ptq import to_onnx_int8
from fincompress.compress.vocabulary import prune_embedding, rows_of
from fincompress.core.errors import InputError
from fincompress.core.files import folder_bytes
from fincompress.core.params import load_params
from fincompress.core.sections import BenchmarkParams, EvaluateParams, PtqParams
from fincompress.core.variants import Variant
from fincompress.data.prepared import read_split
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.networks.scores import macro_f1
from fincompress.runtimes.convert import to_onnx
from studies.output import add_output_options, cpu_of, publish, with_write
from studies.shape import STUDIES

BERT_BASE, TEACHER = "bert_base", "teacher"


@dataclass(frozen=True)
class Step:
    """A rung of the ladder."""

    name: str
    words: str
    runtime: str
    make: Callable[[Path, Path, PtqParams, int], None]  # (models, folder to fill, …, seed)


@dataclass(frozen=True)
class Needs:
    """What this study reads from params.yaml."""

    seed: int
    ptq: PtqParams
    benchmark: BenchmarkParams
    evaluate: EvaluateParams


def _bert_base(models: Path, out: Path, params: PtqParams, seed: int) -> None:
    tokenizer = load_tokenizer(str(models / TEACHER))
    save(STUDIES[BERT_BASE].networks[BERT_BASE](len(tokenizer), seed), tokenizer, out, {"weights": "random"})


def _as_it_is(name: str) -> Callable[[Path, Path, PtqParams, int], None]:
    def make(models: Path, out: Path, params: PtqParams, seed: int) -> None:
        shutil.copytree(models / name, out)

    return make


def _fewer_pieces(models: Path, out: Path, params: PtqParams, seed: int) -> None:
    """`ikd` with the word pieces of `tiny`; nothing is trained."""
    model, tokenizer = load_model(str(models / "ikd")), load_tokenizer(str(models / "tiny"))
    prune_embedding(model, rows_of(tokenizer, load_tokenizer(str(models / "ikd"))))
    save(model, tokenizer, out, {})


def _int8_table(models: Path, out: Path, params: PtqParams, seed: int) -> None:
    """`tiny` in int8 with a byte for every number of an embedding."""
    to_onnx_int8(models / "tiny", out, params.model_copy(update={"embedding_group": None}))


STEPS = (
    Step(BERT_BASE, "BERT-base's shape, random weights, fp32 in PyTorch", "torch", _bert_base),
    Step(TEACHER, "`teacher`: MiniLM, 6 layers of 384, fp32 in PyTorch", "torch", _as_it_is(TEACHER)),
    Step("layers", "fewer layers: `ikd`, 4 of the 6", "torch", _as_it_is("ikd")),
    Step("vocabulary", "vocabulary: `ikd` with the word pieces of `tiny`, not trained", "torch", _fewer_pieces),
    Step("tiny", "heads and neurons, distilled on augmented texts: `tiny`", "torch", _as_it_is("tiny")),
    Step(
        "tiny_ort_fp32",
        "runtime: ONNX Runtime",
        "onnxruntime",
        lambda models, out, params, seed: to_onnx(models / "tiny", out),
    ),
    Step("tiny_ort_table", "int8, embeddings included", "onnxruntime", _int8_table),
    Step(
        "tiny_ort_int8", "codes in place of the table: `tiny_ort_int8`", "onnxruntime", _as_it_is("ptq/tiny_ort_int8")
    ),
)


def ladder(models: Path, data: Path, params: Needs) -> pd.DataFrame:
    """A row a step: parameters, size (MB), latency (ms) and what it is of BERT-base's, throughput and macro F1."""
    test = read_split(data, "test")
    with tempfile.TemporaryDirectory() as temporary:
        variants = []
        for step in STEPS:
            step.make(models, Path(temporary) / step.name, params.ptq, params.seed)
            variants.append(Variant(step.name, step.name, step.runtime, Path(temporary) / step.name))
        measured = measure(variants, {"test": test["text"].tolist()}, params.benchmark, params.seed)
        sizes = {variant.name: folder_bytes(variant.folder) for variant in variants}
        parameters = {
            variant.name: count_parameters(variant.folder) for variant in variants if variant.runtime == "torch"
        }
    said, truth = predictions(measured, "test"), test["label"].to_numpy()
    rows = []
    for step in STEPS:
        own = said[step.name]
        intervals = bootstrap_intervals(truth, own, said[TEACHER], params.evaluate.bootstrap_resamples, params.seed)
        rows.append(
            {
                "name": step.name,
                "words": step.words,
                "parameters": parameters.get(step.name, parameters["tiny"]),
                "size_mb": sizes[step.name] / 1e6,
                "smaller": sizes[BERT_BASE] / sizes[step.name],
                **_times(measured, step.name, params.seed),
                "macro_f1": macro_f1(truth, own),
                "change": intervals["macro_f1_change"],
            }
        )
    return pd.DataFrame(rows)


def _times(measured: Measurements, name: str, seed: int) -> dict[str, float | Timing]:
    """Median latencies (ms), their ratio to BERT-base's in the same rounds, and texts a second in batches."""
    found: dict[str, float | Timing] = {}
    for protocol in ("real", "padded"):
        timed = measured.samples[measured.samples["protocol"] == protocol]
        own, reference = (timed[timed["variant"] == which] for which in (name, BERT_BASE))
        found[protocol] = float(np.median(own["ms"]))
        found[f"{protocol}_faster"] = speedup(reference, own, seed)
    batches = measured.throughput.query("variant == @name and batch_size == @measured.batch_size")
    return {**found, "per_s": float(batches["per_s"].median())}


def page(table: pd.DataFrame, machine: dict, params: Needs, write: Path | None) -> str:
    """The ladder as a Markdown page."""
    lines = [
        "# Step by step to the tiny student",
        "",
        "Two ladders in one table, never mixed in a figure. **Size and time** are compared (×) with a network of",
        "BERT-base's shape, the shape of FinBERT, whose weights are random; it has no score. **Macro F1** is that",
        "of the pipeline's own networks on the test split of the embedded corpus, and its change is against `teacher`.",
        f"Latency is the median of {params.benchmark.runs} runs from text to label on {params.benchmark.threads}",
        "threads, at real lengths and padded to 128 word pieces; size is that of the folder, tokenizer included.",
        "Brackets hold 95 % intervals.",
        "",
        "| step | parameters | MB | × smaller | real ms | × faster | padded ms | × faster | texts/s | F1 | change |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for row in table.to_dict("records"):
        faster = [_interval(row[f"{protocol}_faster"]) for protocol in ("real", "padded")]
        change = row["change"]
        points = "{value:+.1f} [{low:+.1f}, {high:+.1f}]".format(**{key: 100 * value for key, value in change.items()})
        score = ("–", "–") if row["name"] == BERT_BASE else (f"{row['macro_f1']:.3f}", points)
        score = (score[0], "–") if row["name"] == TEACHER else score
        lines.append(
            f"| {row['words']} | {row['parameters'] / 1e6:.1f} M | {row['size_mb']:.2f} | {row['smaller']:.1f} "
            f"| {row['real']:.2f} | {faster[0]} | {row['padded']:.2f} | {faster[1]} | {row['per_s']:,.0f} "
            f"| {score[0]} | {score[1]} |"
        )
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    cpu = cpu_of(machine)
    lines += ["", f"{cpu}, {machine['threads']} threads; {libraries}.", ""]
    lines += [f"Made by `{with_write('python -m studies.tiny_ladder', write)}`.", ""]
    return "\n".join(lines)


def _interval(ratio: Timing) -> str:
    bounds = ratio.interval()
    return f"{ratio.value:.1f} [{bounds['low']:.1f}, {bounds['high']:.1f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description="From a teacher to the tiny student, step by step.")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    add_output_options(parser)
    options = parser.parse_args()
    try:
        params = load_params(Needs)
        if options.dry_run:
            print(f"would time {', '.join(step.name for step in STEPS)}, for {options.write or 'standard output'}")
            return
        table = ladder(options.models, options.data, params)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    publish(page(table, environment(params.benchmark.threads), params, options.write), options.write)


if __name__ == "__main__":
    main()
