"""Checkpoints as people bring them: copies of a good one with files changed, missing or in an older form."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from transformers import BertForSequenceClassification

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"0" * 64 + b"\nsize 91000000\n"


def copied(source: Path, target: Path) -> Path:
    """A copy to be changed."""
    return Path(shutil.copytree(source, target))


def edit(file: Path, **changes: Any) -> None:
    """Set keys of a JSON file; those that are None are removed."""
    content = json.loads(file.read_text(encoding="utf-8")) | changes
    file.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def reweighted(
    source: Path, target: Path, change: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]
) -> Path:
    """A copy whose weights are what `change` makes of the original's."""
    folder = copied(source, target)
    weights = {name: tensor.clone() for name, tensor in change(load_file(folder / "model.safetensors")).items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def with_older_tokenizer(folder: Path) -> None:
    """Replace the tokenizer by the files that BERT had before tokenizer.json: vocab.txt and special_tokens_map.json."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    (folder / "vocab.txt").write_text("".join(f"{piece}\n" for piece in sorted(vocabulary, key=vocabulary.__getitem__)))
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": "[PAD]", "unk_token": "[UNK]"}))
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def with_older_weights(folder: Path) -> None:
    """Replace the weights by PyTorch's older format."""
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def in_parts(folder: Path) -> None:
    """Replace the weights by safetensors in several files and their index."""
    model = BertForSequenceClassification.from_pretrained(folder)
    (folder / "model.safetensors").unlink()
    model.save_pretrained(folder, max_shard_size="60KB")
    assert len(list(folder.glob("model-*.safetensors"))) > 1


def with_older_weights_in_parts(folder: Path) -> None:
    """Replace the weights by several files of PyTorch's older format and their index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number, names in enumerate((list(weights)[::2], list(weights)[1::2]), start=1):
        file = f"pytorch_model-{number:05}-of-00002.bin"
        torch.save({name: weights[name] for name in names}, folder / file)
        places |= dict.fromkeys(names, file)
    index = {"metadata": {}, "weight_map": places}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))


def with_python_tokenizer(folder: Path) -> None:
    """Replace the tokenizer by one as BERTweet has it, which exists in Python alone: vocab.txt and bpe.codes."""
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("profit 3\nrose 2\nr@@ 1\n")
    (folder / "bpe.codes").write_text("r o 1\n")
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertweetTokenizer"}))
