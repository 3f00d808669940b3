"""What scoring a large Parquet file costs: `python -m studies.bulk_scoring`.

Short rows with columns of many types are scored by `fincompress predict` in a process of its own, whose largest memory
is read when it has finished. Then the output is compared with the input: every row, and every column's type.
"""

import argparse
import datetime
import itertools
import json
import random
import re
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tokenizers import BertWordPieceTokenizer
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from fincompress.benchmark.machine import environment
from fincompress.compress.ptq import to_onnx_int8
from fincompress.core.errors import InputError
from fincompress.core.sections import PtqParams
from fincompress.core.threads import usable_cores
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import save
from studies.output import add_output_options, cpu_of, publish, with_write

LABELS, PIECES, GROUP = ["negative", "neutral", "positive"], 2000, 100_000
RANDOM = "a random BERT (2 layers of 64, int8 in ONNX Runtime)"
SCORE = (
    "import sys; from fincompress.cli.main import app; from fincompress.core.memory import peak_rss_mb;"
    "app(sys.argv[1:], standalone_mode=False); print(peak_rss_mb())"
)
"""The command in a process that says how much memory it has taken."""


def random_model(folder: Path) -> Path:
    """Write a small classifier with random weights and a word-piece tokenizer; returns its int8 folder."""
    words = Counter(word for text in read_embedded()["text"] for word in re.findall(r"[a-z]+|[^a-z\s]", text.lower()))
    letters = "abcdefghijklmnopqrstuvwxyz"
    pieces = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *letters, *(f"##{letter}" for letter in letters)]
    pieces = list(dict.fromkeys([*pieces, *sorted(words, key=lambda word: (-words[word], word))]))[:PIECES]
    inner = BertWordPieceTokenizer(vocab={piece: index for index, piece in enumerate(pieces)}, lowercase=True)
    names = {f"{name}_token": f"[{name.upper()}]" for name in ("unk", "pad", "cls", "sep", "mask")}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner._tokenizer, model_max_length=64, **names)
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(pieces),
        hidden_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=128,
        max_position_embeddings=64,
        id2label=dict(enumerate(LABELS)),
        label2id={label: index for index, label in enumerate(LABELS)},
    )
    save(BertForSequenceClassification(config).eval(), tokenizer, folder / "checkpoint", {})
    params = PtqParams(calibration_samples=1, keep_classifier_float=False, embedding_group=None)
    to_onnx_int8(folder / "checkpoint", folder / "int8", params)
    return folder / "int8"


def _batches(rows: int) -> Iterator[pa.RecordBatch]:
    """Rows with the first words of sentences of the embedded corpus, and with columns of many types."""
    chosen, texts = random.Random(0), read_embedded()["text"].tolist()
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)
    for first in range(0, rows, GROUP):
        ids = range(first, min(rows, first + GROUP))
        yield pa.record_batch(
            {
                "id": pa.array([2**63 + row for row in ids], pa.uint64()),
                "text": [f"{' '.join(chosen.choice(texts).split()[:8])} {row}" for row in ids],
                "count": pa.array([row % 1000 for row in ids], pa.int32()),
                "price": pa.array([row % 997 / 8 for row in ids], pa.float32()),
                "at": pa.array([start] * len(ids), pa.timestamp("ns", "Europe/Helsinki")),
                "source": pa.array([f"wire {row % 5}" for row in ids]).dictionary_encode(),
                "tags": pa.array([[("year", row % 30)] for row in ids], pa.map_(pa.string(), pa.int64())),
            }
        )


def write_rows(path: Path, rows: int) -> None:
    """Write the input, a row group at a time."""
    batches = _batches(rows)
    first = next(batches)
    with pq.ParquetWriter(path, first.schema) as writer:
        for batch in itertools.chain([first], batches):
            writer.write_batch(batch)


def check(source: Path, target: Path) -> None:
    """Compare an output with its input, a batch at a time.

    Raises:
        ValueError: a row is missing, or a column has another type or other values.
    """
    before, after = pq.ParquetFile(source), pq.ParquetFile(target)
    names = before.schema_arrow.names
    if not after.schema_arrow.names[: len(names)] == names or before.metadata.num_rows != after.metadata.num_rows:
        raise ValueError(f"{target}: other columns or rows than {source}")
    for name in names:
        if before.schema_arrow.field(name).type != after.schema_arrow.field(name).type:
            raise ValueError(f"{target}: `{name}` is {after.schema_arrow.field(name).type}")
        if not before.read([name])[name].equals(after.read([name])[name]):
            raise ValueError(f"{target}: `{name}` has other values")


def study(model: Path | None, rows: int) -> tuple[float, float]:
    """Rows a second, from start to end of the command, and its largest memory in MB."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = model or random_model(folder)
        source, target = folder / "in.parquet", folder / "out.parquet"
        write_rows(source, rows)
        command = ["predict", "--model", str(model), "--input", str(source), "--output", str(target)]
        ended = subprocess.run([sys.executable, "-c", SCORE, *command], capture_output=True, text=True, check=True)
        check(source, target)
    seconds = re.search(r"rows in ([\d.]+) s", ended.stderr)
    if seconds is None:
        raise ValueError(f"no time in what the command said: {ended.stderr}")
    return rows / float(seconds[1]), json.loads(ended.stdout)


def page(rows: int, model: str, rate: float, megabytes: float, command: str) -> str:
    """The report as Markdown."""
    machine = environment(usable_cores())
    cpu = f"{cpu_of(machine)}, {machine['threads']} threads"
    return "\n".join(
        [
            "# What scoring a large Parquet file costs",
            "",
            f"`predict` from Parquet to Parquet with {model}, on texts of about nine words.",
            "The columns are uint64 over 2⁶³, text, int32, float32, nanoseconds with a time zone, a dictionary and",
            "a map; the output has them with the same types and values.",
            "",
            "| rows | rows a second | largest memory (MB) |",
            "|--:|--:|--:|",
            f"| {rows:,} | {rate:,.0f} | {megabytes:.0f} |",
            "",
            f"{cpu}; onnxruntime {machine['libraries']['onnxruntime']}, pyarrow {pa.__version__}.",
            "",
            f"Made by `{command}`.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="What scoring a large Parquet file costs.")
    parser.add_argument("--rows", type=int, default=1_000_000, metavar="N")
    parser.add_argument("--model", type=Path, metavar="FOLDER", help="a model folder; a small random one if absent")
    add_output_options(parser)
    options = parser.parse_args()
    if options.rows < 1:
        parser.error("--rows: at least 1")
    command = f"python -m studies.bulk_scoring --rows {options.rows}"
    command += f" --model {options.model}" * (options.model is not None)
    command = with_write(command, options.write)
    if options.dry_run:
        print(f"would score {options.rows} rows, for {options.write or 'standard output'}")
        return
    try:
        rate, megabytes = study(options.model, options.rows)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    model = f"`{options.model}`" if options.model else RANDOM
    publish(page(options.rows, model, rate, megabytes, command), options.write)


if __name__ == "__main__":
    main()
