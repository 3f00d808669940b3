"""Load a classifier from a folder, match its head to our labels by name, save it."""

import logging
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
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
from fincompress.core.model_files import reading, weight_files
from fincompress.networks.architectures import architecture_of, check_required
from fincompress.networks.configuration import CHOICE, longest_input, output_names, read_config, read_tokenizer_config
from fincompress.networks.structure import classifier_class
from fincompress.networks.weights import check_weights, weight_names

log = logging.getLogger(__name__)


def load_config(checkpoint: str) -> PreTrainedConfig:
    """The configuration of a checkpoint in a folder.

    Raises:
        InputError: there is no such checkpoint, it cannot be read, or it is of an architecture without an adapter.
    """
    if (Path(checkpoint) / "config.json").is_file():
        read_config(Path(checkpoint))
    try:
        config = AutoConfig.from_pretrained(checkpoint, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, StrictDataclassError) as error:
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
    return " ".join(str(error).split()).partition(". If you")[0] or type(error).__name__


_UNREADABLE = (OSError, RuntimeError, EOFError, pickle.UnpicklingError, SafetensorError)


def load_model(checkpoint: str, headless: bool = False, **overrides: Any) -> PreTrainedModel:
    """The checkpoint in a folder, pruned or whole, as a sequence classifier in fp32 and eval mode.

    Args:
        headless: what is missing of the head, or all of it, may be made up at random; the caller wants the encoder.
        overrides: of the configuration.

    Raises:
        InputError: the weights cannot be read, or do not fit the configuration, which transformers would make up for
            with random ones.
    """
    config = load_config(checkpoint)
    if method := getattr(config, "quantization_config", None):
        kind = method.get("quant_method", "some way") if isinstance(method, Mapping) else method
        raise InputError(
            f"checkpoint `{checkpoint}`: its weights are quantised already ({kind}); take the one in full precision"
        )
    architecture = classifier_class(config)
    files = weight_files(Path(checkpoint))
    verbosity = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()  # `check_weights` says what matters of its page of warnings
    transformers_logging.disable_progress_bar()
    try:
        with reading(*files, by="transformers", raises=_UNREADABLE):
            loaded: Any = architecture.from_pretrained(
                checkpoint,
                dtype=torch.float32,
                use_safetensors=files[0].suffix == ".safetensors",
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # for `check_weights` to name them
                **overrides,
            )
    finally:
        transformers_logging.set_verbosity(verbosity)
    model, info = loaded
    check_weights(checkpoint, model, info, headless)
    return cast(PreTrainedModel, model.eval())


def load_tokenizer(checkpoint: str, max_length: int | None = None) -> PreTrainedTokenizerBase:
    """The checkpoint's tokenizer, returning the inputs of its model; `max_length` (word pieces) is saved with it.

    Raises:
        InputError: there is none, it cannot be read, or it exists only in Python, which no runtime but torch could use.
    """
    config, folder = load_config(checkpoint), Path(checkpoint)
    overrides: dict[str, Any] = {} if max_length is None else {"model_max_length": max_length}
    read_tokenizer_config(folder)
    files = _vocabularies(folder)
    if not files:
        raise InputError(f"checkpoint `{checkpoint}`: no tokenizer: {_NO_VOCABULARY}")
    mend = None if files[0].name == "tokenizer.json" else _FAST
    try:
        with reading(*files, by="transformers", mend=mend):
            tokenizer = AutoTokenizer.from_pretrained(
                checkpoint,
                local_files_only=True,
                trust_remote_code=False,
                model_input_names=list(architecture_of(config.model_type).inputs),
                **overrides,
            )
    except ImportError as error:  # a package that converts an older kind of file
        raise InputError(f"checkpoint `{checkpoint}`: no tokenizer: {_reason(error)}; {_FAST}") from None
    names = {"tokenizer.json", *tokenizer.vocab_files_names.values()}
    if not any((folder / name).is_file() for name in names):  # then transformers makes one that knows no words
        raise InputError(f"checkpoint `{checkpoint}`: no tokenizer: {_NO_VOCABULARY}")
    if not tokenizer.is_fast:
        raise InputError(
            f"checkpoint `{checkpoint}`: its tokenizer, {type(tokenizer).__name__}, runs in Python alone and has no "
            f"tokenizer.json, which serving needs; {_FAST}"
        )
    _check_vocabulary(checkpoint, tokenizer, config)
    return tokenizer


def _check_vocabulary(checkpoint: str, tokenizer: PreTrainedTokenizerBase, config: PreTrainedConfig) -> None:
    """An error where a word piece has no embedding; a tokenizer that names none for padding gets the model's."""
    last = max(tokenizer.get_vocab().values(), default=-1)
    if last >= config.vocab_size:
        raise InputError(
            f"checkpoint `{checkpoint}`: its tokenizer has word pieces up to id {last}, its model embeddings for "
            f"{config.vocab_size}; fetch the tokenizer made for it"
        )
    if tokenizer.pad_token is None:
        name = tokenizer.convert_ids_to_tokens(config.pad_token_id or 0)
        if name is None:
            raise InputError(f"checkpoint `{checkpoint}`: its tokenizer.json has no word piece for padding; {_FAST}")
        tokenizer.pad_token = name


_NO_VOCABULARY = "no vocabulary there (expected tokenizer.json or a file such as vocab.txt)"
_FAST = "take a checkpoint with a tokenizer.json"


def _vocabularies(folder: Path) -> list[Path]:
    """The files that a checkpoint's tokenizer is made of: tokenizer.json, or all that may be of an older kind."""
    others = sorted(path for name in ("*.txt", "*.model", "vocab.json", "*.codes") for path in folder.glob(name))
    fast = folder / "tokenizer.json"
    return [fast] if fast.is_file() else others


def load_for_labels(
    checkpoint: str,
    labels: list[str],
    max_length: int,
    section: str = "teacher",
    label_map: Mapping[str, str] | None = None,
    as_it_is: bool = False,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """Load a checkpoint to be fine-tuned on `labels`, with the rows of its head in our order.

    A checkpoint that was trained as a classifier names its outputs, in any order (`ProsusAI/finbert` has
    positive, negative, neutral). Rows whose names match ours, ignoring case, are kept and moved to our ids; labels
    without such a row get a fresh one. An encoder without a head gets a fresh head. Whatever the checkpoint was trained
    for, the result chooses one label.

    Args:
        section: the section of params.yaml to name in errors.
        label_map: name of one of the checkpoint's outputs -> the label that it stands for, where the names differ.
        as_it_is: it will not be trained, so that every label needs a row.

    Returns:
        (model, tokenizer)

    Raises:
        InputError: names the key of params.yaml, or the file, that has to change.
    """
    config = load_config(checkpoint)
    longest = longest_input(config.to_dict())
    if longest is not None and max_length > longest:
        raise InputError(f"params.yaml: {section}.max_length: {max_length} is over the {longest} of `{checkpoint}`")
    tokenizer = load_tokenizer(checkpoint, max_length)
    names = _checked_names(config, checkpoint, labels, section, label_map, as_it_is)
    if names is not None:
        model = load_model(checkpoint)
        match_head(model, labels, names)
    else:
        model = load_model(checkpoint, headless=True, num_labels=len(labels))
        _name_outputs(model, labels)
    return model, tokenizer


def _checked_names(
    config: PreTrainedConfig,
    checkpoint: str,
    labels: list[str],
    section: str,
    label_map: Mapping[str, str] | None,
    as_it_is: bool,
) -> list[str] | None:
    """The names of a checkpoint's outputs after `label_map`, or None where it has no head of a text classifier.

    Raises:
        InputError: `label_map` names something else, or labels lack an output that will not be trained.
    """
    names = head_names(config, checkpoint)
    where, shown = f"params.yaml: {section}", ", ".join(names or [])
    if label_map and names is None:
        raise InputError(f"{where}.label_map: `{checkpoint}` has no classification head; set it to null")
    if names is not None:
        names = _mapped(names, label_map or {}, f"{where}.label_map: `{checkpoint}`")
    if not as_it_is:
        return names
    kind = getattr(config, "problem_type", None)
    if names is None:
        found = "it has no classification head"
    elif kind not in (None, CHOICE):
        found = f"its problem_type is {kind}, so that it does not choose one label"
    elif lacking := _unmatched(labels, names):
        example = f"{{{shown.partition(',')[0]}: {lacking[0]}, …}}"
        found = f"it has no output for {', '.join(lacking)}, only {shown}; set {section}.label_map, such as {example}"
    else:
        return names
    raise InputError(f"{where}.epochs: 0 takes `{checkpoint}` as it is, but {found}, or train it")


def _mapped(names: list[str], label_map: Mapping[str, str], where: str) -> list[str]:
    """Output names with those of `label_map` in place of the checkpoint's."""
    known = {name.casefold(): index for index, name in enumerate(names)}
    mapped = list(names)
    for name, label in label_map.items():
        if name.casefold() not in known:
            raise InputError(f"{where} has no output `{name}`; it has {', '.join(names)}")
        mapped[known[name.casefold()]] = label
    if len({name.casefold() for name in mapped}) < len(mapped):
        raise InputError(f"{where} would have two outputs of one name: {', '.join(mapped)}")
    return mapped


def _unmatched(labels: list[str], names: list[str]) -> list[str]:
    """The labels that no output is called after."""
    known = {name.casefold() for name in names}
    return [label for label in labels if label.casefold() not in known]


def has_head_for(checkpoint: str, labels: list[str], label_map: Mapping[str, str] | None = None) -> bool:
    """Whether a checkpoint already is a classifier with an output for each of `labels`."""
    names = head_names(load_config(checkpoint), checkpoint)
    return names is not None and not _unmatched(labels, _mapped(names, label_map or {}, f"`{checkpoint}`"))


def head_names(config: PreTrainedConfig, checkpoint: str) -> list[str] | None:
    """The names of the outputs of a text classifier; None for an encoder.

    Older configurations do not say what the model is for; then a head among the weights tells.

    Raises:
        InputError: the names cannot be used, or the head is that of another task, which would be taken for ours.
    """
    tasks, output = config.architectures or [], architecture_of(config.model_type).classifier[-1]
    if not any(name.endswith("ForSequenceClassification") for name in tasks):
        if f"{output}.weight" not in weight_names(Path(checkpoint)):
            return None
        if tasks:
            raise InputError(
                f"checkpoint `{checkpoint}`: a {tasks[0]}, whose head is for another task; take an encoder or a "
                "sequence classifier"
            )
    return output_names(config.to_dict(), f"checkpoint `{checkpoint}`")


def match_head(model: PreTrainedModel, labels: list[str], names: list[str] | None = None) -> list[str]:
    """Reorder the classifier's output rows to `labels` by name, in place; return the labels found.

    Args:
        names: of its outputs, in order; None takes those of its configuration.
    """
    names = names or output_names(model.config.to_dict(), "the model's configuration")
    places = {name.casefold(): index for index, name in enumerate(names)}
    head = output_layer(model)
    weight = torch.empty(len(labels), head.in_features).normal_(std=getattr(model.config, "initializer_range", 0.02))
    bias = torch.zeros(len(labels))
    found = [label for label in labels if label.casefold() in places]
    with torch.no_grad():
        for row, label in enumerate(labels):
            if label in found:
                weight[row] = head.weight[places[label.casefold()]]
                bias[row] = head.bias[places[label.casefold()]]
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
    if model.config.problem_type is not None:  # else transformers goes by the labels' type
        model.config.problem_type = CHOICE
    model.num_labels = len(labels)  # type: ignore[assignment]  # a plain attribute, which Module's stub denies


def save(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, path: Path, training: dict) -> None:
    """Save a standard transformers checkpoint (safetensors) with its training summary, atomically."""
    with atomic_folder(path) as folder:
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        write_json(folder / "training.json", training)
