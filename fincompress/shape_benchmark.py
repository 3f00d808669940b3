"""What shape and int8 alone buy: a BERT-base-sized teacher and a 4-layer student, both with random weights.

`python -m fincompress.shape_benchmark --write docs/results/bert_base_shape.md`. Nothing is trained and no score is
given: size and latency do not depend on what weights say, so this measures what the student of a 109 M parameter
teacher such as FinBERT will cost before anyone has trained one.
"""

import argparse
import tempfile
from pathlib import Path

import pandas as pd
import torch
from transformers import BertConfig, BertForSequenceClassification

from fincompress.benchmark import environment, measure
from fincompress.checkpoints import load_tokenizer, save
from fincompress.errors import InputError
from fincompress.files import atomic_file, folder_bytes
from fincompress.locate import locate
from fincompress.params import FINANCIAL_LABELS, BenchmarkParams, PtqParams, load_params
from fincompress.quantization import to_onnx_int8, to_openvino_int8
from fincompress.sources import read_embedded
from fincompress.variants import Variant

SHAPES = {
    "bert_base": {"num_hidden_layers": 12, "hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072},
    "student": {"num_hidden_layers": 4, "hidden_size": 384, "num_attention_heads": 12, "intermediate_size": 1536},
}
SENTENCES = 128


def make_variants(folder: Path, ptq: PtqParams, texts: list[str], seed: int) -> list[Variant]:
    """Both shapes in fp32 PyTorch, and the student in int8 for either runtime."""
    tokenizer = load_tokenizer(locate("minilm", "main", "teacher", "checkpoint").folder, max_length=128)
    for name, shape in SHAPES.items():
        torch.manual_seed(seed)
        config = BertConfig(vocab_size=len(tokenizer), id2label=dict(enumerate(FINANCIAL_LABELS)), **shape)
        save(BertForSequenceClassification(config), tokenizer, folder / name, {"weights": "random"})
    to_openvino_int8(folder / "student", folder / "student_ov_int8", texts[: ptq.calibration_samples], ptq)
    to_onnx_int8(folder / "student", folder / "student_ort_int8", ptq)
    runtimes = {
        "bert_base": "torch",
        "student": "torch",
        "student_ov_int8": "openvino",
        "student_ort_int8": "onnxruntime",
    }
    return [Variant(name, name.split("_o")[0], runtime, folder / name) for name, runtime in runtimes.items()]


def shape_table(benchmark: BenchmarkParams, ptq: PtqParams, seed: int) -> pd.DataFrame:
    """Size (MB) and median latency (ms) of every variant, and both as ratios to the first: columns of the report."""
    texts = read_embedded()["text"].sample(SENTENCES + ptq.calibration_samples, random_state=seed).tolist()
    with tempfile.TemporaryDirectory() as temporary:
        variants = make_variants(Path(temporary), ptq, texts[SENTENCES:], seed)
        measured = measure(variants, {"test": texts[:SENTENCES]}, benchmark, seed)
        size = {variant.name: folder_bytes(variant.folder) / 1e6 for variant in variants}
    medians = measured.samples.groupby(["variant", "protocol"])["ms"].median().unstack()
    table = medians.loc[[variant.name for variant in variants], ["real", "padded"]]
    table.insert(0, "size_mb", pd.Series(size))
    for column in list(table):
        table[f"{column}_ratio"] = table[column].iloc[0] / table[column]
    return table


def report(table: pd.DataFrame, machine: dict) -> str:
    """The table as a Markdown page, with what it was measured on."""
    lines = [
        "# What shape and int8 alone buy",
        "",
        "A teacher of BERT-base's shape (12 layers of 768) and a student of 4 layers of 384, **both with random",
        "weights**: sizes and latencies are real, no quality is claimed. Median latency at batch 1, at the embedded",
        "corpus's natural lengths and padded to 128 word pieces; × compares with the teacher.",
        "",
        "| variant | size (MB) | × smaller | real ms | × faster | padded ms | × faster |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for name, row in table.iterrows():
        lines.append(
            f"| `{name}` | {row['size_mb']:.1f} | {row['size_mb_ratio']:.1f} | {row['real']:.2f} "
            f"| {row['real_ratio']:.1f} | {row['padded']:.2f} | {row['padded_ratio']:.1f} |"
        )
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    lines += ["", f"{machine['cpu']}, {machine['threads']} threads; {libraries}.", ""]
    lines += ["Made by `python -m fincompress.shape_benchmark --write docs/results/bert_base_shape.md`.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Benchmark a BERT-base shape against its small student's.")
    parser.add_argument("--write", type=Path, metavar="FILE", help="a Markdown file for the report; printed if absent")
    options = parser.parse_args()
    try:
        params = load_params("seed", "ptq", "benchmark")
        page = report(shape_table(params.benchmark, params.ptq, params.seed), environment(params.benchmark.threads))
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    if options.write is None:
        print(page)
        return
    with atomic_file(options.write) as path:
        path.write_text(page, encoding="utf-8")


if __name__ == "__main__":
    main()
