"""What a model folder is, and what stands in the way of compressing it: `fincompress doctor MODEL`."""

import json
import re
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import Any

from fincompress.cli.findings import Finding, looked_at
from fincompress.core.errors import InputError
from fincompress.core.extras import explained
from fincompress.core.model_files import WEIGHTS, read_object, reading
from fincompress.core.runtimes import FLOOR, RUNTIMES
from fincompress.networks.architectures import architecture_of
from fincompress.networks.configuration import (
    CHOICE,
    chosen_among,
    longest_input,
    longest_text,
    read_config,
    read_tokenizer_config,
)
from fincompress.runtimes.registry import open_classifier, runtime_of

_NAMELESS = re.compile(r"LABEL_\d+", re.IGNORECASE)
_SIZES = {"layers": ("num_hidden_layers", "n_layers"), "heads": ("num_attention_heads", "n_heads")}
_WIDTH = ("hidden_size", "dim")


def examine_model(folder: Path) -> list[Finding]:
    """Look at a model folder of any format.

    Raises:
        InputError: there is no model in it.
    """
    runtime = runtime_of(folder)
    size = sum(file.stat().st_size for file in folder.iterdir() if file.is_file() and _is_weight(file)) / 1e6
    kind = f"{_KINDS.get(runtime, 'a model')} for {RUNTIMES[runtime].title}, {size:.1f} MB"
    if runtime == FLOOR:
        return [Finding("kind", kind), looked_at("opens", lambda: _opens(folder, runtime))]
    try:
        config = read_config(folder)
    except InputError as error:
        return [Finding("kind", kind), Finding("architecture", "cannot be used", str(error))]
    findings = [Finding("kind", kind), looked_at("architecture", lambda: _shape(config))]
    if runtime == "torch":
        findings += [looked_at("weights", lambda: _weights(folder)), *_head(folder)]
    else:
        findings.append(looked_at("labels", lambda: ", ".join(chosen_among(config, str(folder / "config.json")))))
    findings += [
        looked_at("longest text", lambda: _longest(folder, config)),
        looked_at("tokenizer", lambda: _tokenizer(folder, config, runtime)),
    ]
    if runtime != "torch":
        findings.append(looked_at("opens", lambda: _opens(folder, runtime)))
    return findings


_KINDS = {"torch": "a checkpoint of transformers", "onnxruntime": "a converted model", "openvino": "a converted model"}


def _is_weight(file: Path) -> bool:
    return file.suffix in (".safetensors", ".bin", ".onnx", ".xml", ".data")


def _shape(config: Mapping[str, Any]) -> str:
    """The architecture, and how deep and wide it is."""
    sizes = [f"{given} {what}" for what, keys in _SIZES.items() if (given := _first(config, keys)) is not None]
    wide = _first(config, _WIDTH)
    inner = config.get(architecture_of(config["model_type"]).intermediate_size)
    sizes += [f"{wide} wide"] if wide is not None else []
    sizes += [f"{inner} neurons a layer"] if inner is not None else []
    if structure := config.get("pruned_structure"):
        sizes.append(f"pruned to {sum(map(len, structure['kept_heads']))} heads in all")
    return ", ".join([config["model_type"], *sizes])


def _first(config: Mapping[str, Any], keys: tuple[str, ...]) -> Any:
    return next((config[key] for key in keys if key in config), None)


def _weights(folder: Path) -> str:
    """Parameters and format of a checkpoint, once every weight has been found to be there and to fit."""
    with explained():
        from fincompress.networks.checkpoints import head_names, load_config, load_model
        from fincompress.networks.weights import weight_shapes

        shapes = weight_shapes(folder)
        load_model(str(folder), headless=head_names(load_config(str(folder)), str(folder)) is None)
    first = next(name for name in WEIGHTS if (folder / name).is_file())
    floats = [(shape, kind) for shape, kind in shapes.values() if not kind.startswith(("I", "torch.int"))]
    kinds = sorted({kind.removeprefix("torch.") for _, kind in floats})
    parameters = sum(prod(shape) for shape, _ in floats) / 1e6
    parts = " in parts" if first.endswith(".json") else ""
    kind = "safetensors" if "safetensors" in first else "PyTorch's older format, read by its weights-only loader"
    return f"{parameters:.2f} million parameters ({', '.join(kinds)}), {kind}{parts}"


def _head(folder: Path) -> list[Finding]:
    """A checkpoint's outputs, and whether it chooses one of them."""
    with explained():
        from fincompress.networks.checkpoints import head_names, load_config
    try:
        config = load_config(str(folder))
        names = head_names(config, str(folder))
    except InputError as error:
        return [Finding("labels", "cannot be used", str(error))]
    if names is None:
        return [Finding("labels", "none: an encoder, whose head is made and trained for your labels")]
    nameless = [name for name in names if _NAMELESS.fullmatch(name)]
    mend = (
        f"say what they stand for, as in teacher.label_map: {{{nameless[0]}: a label of yours}}" if nameless else None
    )
    findings = [Finding("labels", ", ".join(names), mend)]
    kind = getattr(config, "problem_type", None) or CHOICE
    if kind != CHOICE or len(names) < 2:
        found = kind if kind != CHOICE else "one output"
        mend = "it does not choose one label: fine-tune it (teacher.epochs over 0), which makes it do so"
        findings.append(Finding("problem type", found, mend))
    return findings


def _longest(folder: Path, config: Mapping[str, Any]) -> str:
    beside = read_tokenizer_config(folder)
    positions = longest_input(config)
    found = f"{longest_text(config, beside, str(folder))} word pieces"
    return found if positions is None else f"{found}; positions for {positions}"


def _tokenizer(folder: Path, config: Mapping[str, Any], runtime: str) -> str | Finding:
    """The kind of tokenizer and its vocabulary's size, against the embeddings that there are."""
    file = folder / "tokenizer.json"
    if file.is_file():
        from tokenizers import Tokenizer

        with reading(file, by="tokenizers"):
            tokenizer = Tokenizer.from_file(str(file))
        said, origin = read_object(file), "tokenizer.json"
    elif runtime == "torch":
        with explained():
            from fincompress.networks.checkpoints import load_tokenizer

            tokenizer = load_tokenizer(str(folder)).backend_tokenizer
        said, origin = json.loads(tokenizer.to_str()), "an older kind of vocabulary"
    else:
        raise InputError(f"{folder}: no tokenizer.json, which a model for {runtime} needs; fetch it too")
    pieces, rows = tokenizer.get_vocab_size(), config.get("vocab_size")
    found = f"{said['model'].get('type', 'of unknown kind')}, {pieces} word pieces, {origin}"
    if isinstance(rows, int) and max(tokenizer.get_vocab().values(), default=0) >= rows:
        return Finding(
            "tokenizer", found, f"the model has embeddings for {rows} alone: fetch the tokenizer made for it"
        )
    return found


def _opens(folder: Path, runtime: str) -> str:
    labels = open_classifier(folder, runtime, threads=1).labels
    return f"yes, with {len(labels)} labels; only the checkpoint that it was made from can be compressed further"
