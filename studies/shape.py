"""What shape and int8 alone buy, measured with random weights: sizes and latencies do not depend on their values.

    python -m studies.shape bert_base --write docs/results/bert_base_shape.md

Nothing is trained and no score is given. The study shows what the student of a teacher with 109 M parameters, such as
FinBERT, or a pruned DistilBERT, will cost before anyone trains one.
"""

import argparse
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BertConfig,
    DistilBertConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fincompress.benchmark.machine import environment
from fincompress.benchmark.protocol import measure
from fincompress.compress.pruning import least_important
from fincompress.compress.sparsity import zero_smallest
from fincompress.core.errors import InputError
from fincompress.core.files import folder_bytes
from fincompress.core.params import load_params
from fincompress.core.runtimes import INT8_RUNTIMES, converted_name, load_object
from fincompress.core.sections import FINANCIAL_LABELS, BenchmarkParams, PtqParams
from fincompress.core.variants import Variant
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_tokenizer, save
from fincompress.networks.locate import locate
from fincompress.networks.structure import remove, structure_of
from studies.output import add_output_options, cpu_of, publish

SENTENCES = 128
HEADS, NEURONS, AMOUNT = 0.6, 0.5, 0.6  # as in recipes/distilbert-agnews


@dataclass(frozen=True)
class Study:
    """Networks to measure; the others are compared with the first."""

    title: str
    text: str
    networks: dict[str, Callable[[int, int], PreTrainedModel]]  # name -> (vocabulary size, seed) -> network
    quantized: tuple[str, ...]  # those also measured in int8, in both runtimes


def random_classifier(config: PreTrainedConfig, seed: int) -> PreTrainedModel:
    """A classifier with transformers' initial weights."""
    torch.manual_seed(seed)
    config.id2label = dict(enumerate(FINANCIAL_LABELS))
    return AutoModelForSequenceClassification.from_config(config)


def _bert(layers: int, width: int) -> Callable[[int, int], PreTrainedModel]:
    return lambda vocabulary, seed: random_classifier(
        BertConfig(
            vocab_size=vocabulary,
            num_hidden_layers=layers,
            hidden_size=width,
            num_attention_heads=12,
            intermediate_size=4 * width,
        ),
        seed,
    )


def _distilbert(heads: float = 0, neurons: float = 0, zeros: float = 0) -> Callable[[int, int], PreTrainedModel]:
    """DistilBERT's shape without these shares of heads and neurons, and with this share of weights set to zero."""

    def make(vocabulary: int, seed: int) -> PreTrainedModel:
        model = random_classifier(DistilBertConfig(vocab_size=vocabulary), seed)
        structure = structure_of(model)
        scores = np.random.default_rng(seed).random((len(structure.kept_heads), len(structure.kept_heads[0])))
        gone = [np.arange(round(neurons * width)) for width in structure.ffn_widths]
        remove(model, least_important(scores, round(heads * scores.size)), gone)
        if zeros:
            zero_smallest(model, zeros)
        return model

    return make


STUDIES = {
    "bert_base": Study(
        "What shape and int8 alone buy",
        "A teacher of BERT-base's shape (12 layers of 768) and a student of 4 layers of 384",
        {"bert_base": _bert(12, 768), "student": _bert(4, 384)},
        ("student",),
    ),
    "distilbert": Study(
        "What pruning and int8 alone buy DistilBERT",
        f"DistilBERT's shape (6 layers of 768): whole; without {HEADS:.0%} of its heads and with {AMOUNT:.0%} of its "
        f"feed-forward and classifier weights set to zero (as published); and without {NEURONS:.0%} of its "
        "feed-forward neurons as well",
        {
            "distilbert": _distilbert(),
            "zeroed": _distilbert(zeros=AMOUNT),
            "published": _distilbert(heads=HEADS, zeros=AMOUNT),
            "pruned": _distilbert(heads=HEADS, neurons=NEURONS, zeros=AMOUNT),
        },
        ("distilbert", "published", "pruned"),
    ),
}


@dataclass(frozen=True)
class Needs:
    """What this study reads from params.yaml."""

    seed: int
    ptq: PtqParams
    benchmark: BenchmarkParams


def make_variants(
    study: Study, folder: Path, tokenizer: PreTrainedTokenizerBase, ptq: PtqParams, texts: list[str], seed: int
) -> list[Variant]:
    """Every network in fp32 PyTorch, and those to be quantised in int8 for both runtimes."""
    variants = []
    for name, network in study.networks.items():
        save(network(len(tokenizer), seed), tokenizer, folder / name, {"weights": "random"})
        variants.append(Variant(name, name, "torch", folder / name))
    for name in study.quantized:
        for runtime in INT8_RUNTIMES:
            target = folder / converted_name(name, runtime, "int8")
            load_object(runtime.to_int8)(folder / name, target, ptq, texts[: ptq.calibration_samples])
            variants.append(Variant(target.name, name, runtime.name, target))
    return variants


def shape_table(study: Study, benchmark: BenchmarkParams, ptq: PtqParams, seed: int) -> pd.DataFrame:
    """Size (MB) and median latency (ms) of every variant, and both as ratios to the first: columns of the report."""
    texts = read_embedded()["text"].sample(SENTENCES + ptq.calibration_samples, random_state=seed).tolist()
    tokenizer = load_tokenizer(locate("minilm", "main", "teacher", "checkpoint").folder, max_length=128)
    with tempfile.TemporaryDirectory() as temporary:
        variants = make_variants(study, Path(temporary), tokenizer, ptq, texts[SENTENCES:], seed)
        measured = measure(variants, {"test": texts[:SENTENCES]}, benchmark, seed)
        size = {variant.name: folder_bytes(variant.folder) / 1e6 for variant in variants}
    medians = measured.samples.groupby(["variant", "protocol"])["ms"].median().unstack()
    table = medians.loc[[variant.name for variant in variants], ["real", "padded"]]
    table.insert(0, "size_mb", pd.Series(size))
    for column in list(table):
        table[f"{column}_ratio"] = table[column].iloc[0] / table[column]
    return table


def report(name: str, table: pd.DataFrame, machine: dict, runs: int) -> str:
    """The table of a study as a Markdown page, with the machine and the number of runs per variant."""
    study = STUDIES[name]
    lines = [
        f"# {study.title}",
        "",
        f"{study.text}, **all with random weights**: sizes and latencies are real, no quality is claimed. Median "
        f"latency of {runs} runs from text to label, at the embedded corpus's natural lengths and padded to 128 word "
        "pieces; "
        f"× compares with `{table.index[0]}`.",
        "",
        "| variant | size (MB) | × smaller | real ms | × faster | padded ms | × faster |",
        "|---|--:|--:|--:|--:|--:|--:|",
    ]
    for variant, row in table.iterrows():
        lines.append(
            f"| `{variant}` | {row['size_mb']:.1f} | {row['size_mb_ratio']:.1f} | {row['real']:.2f} "
            f"| {row['real_ratio']:.1f} | {row['padded']:.2f} | {row['padded_ratio']:.1f} |"
        )
    libraries = ", ".join(f"{name} {version}" for name, version in machine["libraries"].items())
    cpu = cpu_of(machine)
    lines += ["", f"{cpu}, {machine['threads']} threads; {libraries}.", ""]
    command = f"python -m studies.shape {name} --runs {runs} --write docs/results/{name}_shape.md"
    lines += [f"Made by `{command}`.", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Size and latency of shapes with random weights.")
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--runs", type=int, metavar="N", help="timed runs a variant, in 5 rounds; else as params.yaml")
    add_output_options(parser)
    options = parser.parse_args()
    try:
        params = load_params(Needs)
        benchmark = params.benchmark
        if options.runs:
            benchmark = benchmark.model_copy(
                update={"runs": options.runs, "warmups": 10, "rounds": 5, "cold_starts": 0}
            )
        if options.dry_run:
            networks = ", ".join(STUDIES[options.study].networks)
            print(f"would time {networks}, {benchmark.runs} runs each, for {options.write or 'standard output'}")
            return
        table = shape_table(STUDIES[options.study], benchmark, params.ptq, params.seed)
        page = report(options.study, table, environment(benchmark.threads), benchmark.runs)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    publish(page, options.write)


if __name__ == "__main__":
    main()
