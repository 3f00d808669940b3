"""Load a classifier from a folder, match its head to our labels by name, save it."""

import logging
from pathlib import Path
from typing import Any, cast

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from fincompress.core.errors import InputError
from fincompress.core.files import atomic_folder, write_json
from fincompress.networks.architectures import architecture_of, check_required
from fincompress.networks.structure import classifier_class

log = logging.getLogger(__name__)


def load_config(checkpoint: str) -> PreTrainedConfig:
    """The configuration of a checkpoint in a folder.

    Raises:
        InputError: there is no such checkpoint, it cannot be read, or it is of an architecture without an adapter.
    """
    try:
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise InputError(
            f"checkpoint `{checkpoint}` cannot be loaded: {_reason(error)} (expected a folder with config.json and "
            "model.safetensors)"
        ) from None
    try:
        check_required(config.model_type, config.to_dict())
    except InputError as error:
        raise InputError(f"checkpoint `{checkpoint}`: {error}") from None
    return config


def _reason(error: Exception) -> str:
    """What went wrong according to transformers, without its advice, which is about checkpoints on the hub."""
    return str(error).strip().splitlines()[0].partition(". If you")[0]


def load_model(checkpoint: str, **overrides: Any) -> PreTrainedModel:
    """The checkpoint in a folder, pruned or whole, as a sequence classifier in fp32 and eval mode."""
    architecture = classifier_class(load_config(checkpoint))
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a fresh head is expected here, not worth a page of warnings
    transformers_logging.disable_progress_bar()
    try:
        return architecture.from_pretrained(
            checkpoint, dtype=torch.float32, use_safetensors=not _is_older_format(checkpoint), **overrides
        ).eval()
    except (OSError, RuntimeError) as error:  # RuntimeError: weights whose sizes differ from config.json
        raise InputError(f"checkpoint `{checkpoint}`: {_reason(error)}") from None
    finally:
        transformers_logging.set_verbosity(verbosity)


def _is_older_format(checkpoint: str) -> bool:
    """Whether a checkpoint has no safetensors, like some on the hub; see `locate`."""
    folder = Path(checkpoint)
    return any(folder.glob("pytorch_model*.bin")) and not any(folder.glob("model*.safetensors"))


def load_tokenizer(checkpoint: str, max_length: int | None = None) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, returning the inputs of its model; `max_length` (word pieces) is saved with it."""
    overrides = {} if max_length is None else {"model_max_length": max_length}
    names = list(architecture_of(load_config(checkpoint).model_type).inputs)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            checkpoint, local_files_only=True, model_input_names=names, **overrides
        )
    except (OSError, ValueError) as error:
        reason = _reason(error)
    else:
        files = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
        if any((Path(checkpoint) / name).is_file() for name in files):
            return tokenizer
        reason = "no vocabulary there"  # without one, transformers makes a tokenizer that knows no words
    raise InputError(
        f"checkpoint `{checkpoint}`: no tokenizer: {reason} (expected tokenizer.json or a file such as vocab.txt)"
    )


def load_for_labels(
    checkpoint: str, labels: list[str], max_length: int, section: str = "teacher"
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a checkpoint to be fine-tuned on `labels`, with the rows of its head in our order.

    A checkpoint that was trained as a classifier names its outputs, in any order (`ProsusAI/finbert` has
    positive, negative, neutral). Rows whose names match ours, ignoring case, are kept and moved to our ids; labels
    without such a row get a fresh one. An encoder without a head gets a fresh head.

    Args:
        section: the section of params.yaml to name in errors.

    Returns:
        (model, tokenizer)
    """
    config = load_config(checkpoint)
    longest = config.max_position_embeddings - architecture_of(config.model_type).reserved_positions
    if max_length > longest:
        raise InputError(f"params.yaml: {section}.max_length: {max_length} is over the {longest} of `{checkpoint}`")
    tokenizer = load_tokenizer(checkpoint, max_length)
    if _is_classifier(config):
        model = load_model(checkpoint)
        match_head(model, labels)
    else:
        model = load_model(checkpoint, num_labels=len(labels))
        _name_outputs(model, labels)
    return model, tokenizer


def has_head_for(checkpoint: str, labels: list[str]) -> bool:
    """Whether a checkpoint already is a classifier with an output for each of `labels`."""
    config = load_config(checkpoint)
    return _is_classifier(config) and {label.casefold() for label in labels} <= set(_output_names(config))


def _is_classifier(config: PreTrainedConfig) -> bool:
    return any(name.endswith("ForSequenceClassification") for name in config.architectures or [])


def _output_names(config: PreTrainedConfig) -> list[str]:
    names = cast(dict[int, str], config.id2label)
    return [names[index].casefold() for index in range(len(names))]


def match_head(model: PreTrainedModel, labels: list[str]) -> list[str]:
    """Reorder the classifier's output rows to `labels` by name, in place; return the labels found."""
    names = _output_names(model.config)
    head = output_layer(model)
    weight = torch.empty(len(labels), head.in_features).normal_(std=getattr(model.config, "initializer_range", 0.02))
    bias = torch.zeros(len(labels))
    found = [label for label in labels if label.casefold() in names]
    with torch.no_grad():
        for row, label in enumerate(labels):
            if label in found:
                weight[row] = head.weight[names.index(label.casefold())]
                bias[row] = head.bias[names.index(label.casefold())]
    head.weight, head.bias = torch.nn.Parameter(weight), torch.nn.Parameter(bias)
    head.out_features = len(labels)
    if len(found) < len(labels):
        log.warning("labels without an output of that name start afresh: %s", sorted(set(labels) - set(found)))
    _name_outputs(model, labels)
    return found


def output_layer(model: PreTrainedModel) -> torch.nn.Linear:
    """The last linear layer, whose rows are the labels."""
    return cast(torch.nn.Linear, model.get_submodule(architecture_of(model.config.model_type).classifier[-1]))


def _name_outputs(model: PreTrainedModel, labels: list[str]) -> None:
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    model.num_labels = len(labels)  # type: ignore[assignment]  # a plain attribute, which Module's stub denies


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, training: dict) -> None:
    """Save a standard transformers checkpoint (safetensors) with its training summary, atomically."""
    with atomic_folder(path) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / "training.json", training)
