"""What the export to ONNX Runtime gains and costs: `python -m studies.onnx_export`, after `dvc repro`.

Each network is exported with and without fused operators, in fp32 and in int8 of 8 and of 7 bits, and with token ids
as its only input; all are scored, and timed in interleaved rounds on one thread and on as many as params.yaml says.
"""

import argparse
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd

from fincompress.benchmark.machine import environment
from fincompress.benchmark.protocol import Measurements, measure
from fincompress.compress.embedding_codes import with_codes
from fincompress.compress.ptq import SEED, quantize_onnx
from fincompress.core.errors import InputError
from fincompress.core.files import folder_bytes
from fincompress.core.params import load_params
from fincompress.core.sections import BenchmarkParams
from fincompress.core.variants import Variant
from fincompress.data.prepared import read_split
from fincompress.networks.checkpoints import load_model
from fincompress.networks.scores import macro_f1
from fincompress.runtimes.convert import as_onnx, carry, first_position_alone, fused
from studies.output import add_output_options, cpu_of, publish, with_write

PLAIN, CHOSEN = "fp32, plain operators", "the same, embeddings as codes, three numbers a byte (what `ptq` writes)"
NO_MASK = "int8 of 7 bits, plain operators, without mask and token types"
FORMS: dict[str, dict[str, Any]] = {
    PLAIN: {"fuse": False, "bits": None},
    "fp32, fused": {"fuse": True, "bits": None},
    "int8 of 7 bits, plain operators": {"fuse": False, "bits": 7},
    "int8 of 8 bits, fused": {"fuse": True, "bits": 8},
    "int8 of 7 bits, fused": {"fuse": True, "bits": 7},
    "the same, the first position alone at the end": {"fuse": True, "bits": 7, "first": True},
    CHOSEN: {"fuse": True, "bits": 7, "first": True, "group": 3},
    NO_MASK: {"fuse": False, "bits": 7, "inputs": ("input_ids",)},  # the optimiser knows no attention without a mask
}
"""What a row is called -> how the network is exported."""
SHORT, PADDED = 8, 128  # word pieces
KINDS = ("real", "padded", "short")


@dataclass(frozen=True)
class Needs:
    """What this study reads from params.yaml."""

    seed: int
    benchmark: BenchmarkParams


def export(
    checkpoint: Path,
    folder: Path,
    fuse: bool,
    bits: int | None,
    inputs: tuple[str, ...] | None = None,
    first: bool = False,
    group: int | None = None,
) -> None:
    """Write a checkpoint to `folder` for ONNX Runtime in one of the `FORMS`."""
    model = load_model(str(checkpoint))
    graph = as_onnx(model, inputs)
    if fuse:
        graph = fused(graph, model)
    if first:
        graph = first_position_alone(graph)
    kept = [with_codes(graph, group, SEED)] if group else []
    folder.mkdir(parents=True)
    carry(checkpoint, folder)
    if bits is None:
        onnx.save(graph, folder / "model.onnx")
    else:
        quantize_onnx(graph, folder / "model.onnx", keep_classifier_float=False, seven_bits=bits == 7, kept=kept)


def study(
    network: str, models: Path, splits: dict[str, pd.DataFrame], params: BenchmarkParams, seed: int
) -> list[dict]:
    """A row a form of a network: its size, its scores, labels that differ from fp32's, and medians in ms."""
    texts = {name: rows["text"].tolist() for name, rows in splits.items()}
    with tempfile.TemporaryDirectory() as temporary:
        variants = []
        for number, how in enumerate(FORMS.values()):
            folder = Path(temporary) / f"teacher{number or ''}"
            export(models / network, folder, **how)
            variants.append(Variant(folder.name, network, "onnxruntime", folder))
        sizes = [folder_bytes(variant.folder) / 1e6 for variant in variants]
        runs = {
            threads: measure(variants, texts, params.model_copy(update={"threads": threads}), seed)
            for threads in sorted({1, params.threads})
        }
    rows = []
    for title, variant, size in zip(FORMS, variants, sizes, strict=True):
        measured = runs[params.threads]
        said = {split: _labels(measured, variant.name, split) for split in splits}
        plain = _labels(measured, variants[0].name, "test")
        scores = {f"{split}_f1": macro_f1(frame["label"].to_numpy(), said[split]) for split, frame in splits.items()}
        times = {
            (threads, kind): ms for threads, run in runs.items() for kind, ms in _medians(run, variant.name).items()
        }
        changed = int((said["test"] != plain).sum())
        rows.append({"network": network, "form": title, "size": size, "changed": changed, **scores, "ms": times})
    return rows


def _labels(measured: Measurements, name: str, split: str) -> np.ndarray:
    return np.array(measured.labels[name])[measured.logits[name][split].argmax(axis=1)]


def _medians(measured: Measurements, name: str) -> dict[str, float]:
    """Median ms of the forward pass at real lengths and padded, and from text to label at the shortest length."""
    samples = measured.samples.query("variant == @name").groupby("protocol")["forward_ms"].median()
    short = measured.lengths.query("variant == @name and length == @SHORT")["ms"].median()
    return {"real": samples["real"], "padded": samples["padded"], "short": short}


def page(rows: list[dict], machine: dict, runs: int, command: str) -> str:
    """The rows as a Markdown page."""
    threads = sorted({count for count, _ in rows[0]["ms"]})
    titles = {(count, kind): f"{kind} ms, {count} thread{'s' * (count > 1)}" for count in threads for kind in KINDS}
    lines = [
        "# How networks are exported to ONNX Runtime",
        "",
        "Attention as one operator a layer (by `onnxruntime.transformers`) against plain operators, and int8 weights",
        "of 7 bits against 8. Weights of 8 bits saturate on CPUs without int8 dot products (VNNI), where labels then",
        "change; those of 7 bits say the same on every CPU. Scores are macro F1 on validation and test; *changed*",
        "counts test labels that are not those of fp32. Times are medians of",
        f"{runs} forward passes, one text at a time, at real lengths and padded to {PADDED} word pieces; *short* is a",
        f"text of {SHORT} pieces from text to label, which shows a warm session's fixed cost.",
    ]
    for network in dict.fromkeys(row["network"] for row in rows):
        lines += ["", f"| `{network}` | size (MB) | validation | test | changed | {' | '.join(titles.values())} |"]
        lines += [f"|---|{'--:|' * (4 + len(titles))}"]
        for row in rows:
            if row["network"] == network:
                cells = [f"{row['size']:.1f}", f"{row['val_f1']:.3f}", f"{row['test_f1']:.3f}", str(row["changed"])]
                cells += [f"{row['ms'][key]:.2f}" for key in titles]
                lines.append(f"| {row['form']} | {' | '.join(cells)} |")
    cpu = cpu_of(machine)
    lines += ["", f"{cpu}; onnxruntime {machine['libraries']['onnxruntime']}, torch {machine['libraries']['torch']}."]
    return "\n".join([*lines, "", f"Made by `{command}`.", ""])


def main() -> None:
    parser = argparse.ArgumentParser(description="What fused operators and 7-bit weights gain and cost.")
    parser.add_argument("networks", nargs="+", help="of models/, as trained")
    parser.add_argument("--runs", type=int, default=100, metavar="N", help="timed runs a form, in 5 rounds")
    parser.add_argument("--models", type=Path, default=Path("models"))
    parser.add_argument("--data", type=Path, default=Path("data"))
    add_output_options(parser)
    options = parser.parse_args()
    command = f"python -m studies.onnx_export {' '.join(options.networks)} --runs {options.runs}"
    command = with_write(command, options.write)
    try:
        params = load_params(Needs)
        if options.dry_run:
            print(f"would export {', '.join(options.networks)}, for {options.write or 'standard output'}")
            return
        short = {"runs": options.runs, "warmups": 10, "rounds": 5, "side_rounds": 5, "cold_starts": 0}
        benchmark = params.benchmark.model_copy(update={**short, "lengths": [SHORT], "padded_length": PADDED})
        splits = {name: read_split(options.data, name) for name in ("val", "test")}
        rows = [row for name in options.networks for row in study(name, options.models, splits, benchmark, params.seed)]
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    content = page(rows, environment(benchmark.threads), options.runs, command)
    publish(content, options.write)


if __name__ == "__main__":
    main()
