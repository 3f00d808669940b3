"""Building a student: its shape, and what it starts from."""

import copy
import re

import torch
from transformers import (
    AutoModelForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from fincompress.core.errors import InputError
from fincompress.core.sections import StudentParams
from fincompress.networks.architectures import architecture_of
from fincompress.networks.checkpoints import load_model, load_tokenizer
from fincompress.networks.locate import locate
from fincompress.networks.structure import is_pruned, places


def select_layers(count: int, total: int, selection: str) -> list[int]:
    """Which `count` of `total` layers a student copies.

    `first` keeps the lower layers, whose features stay intact (top-layer dropping, Sajjad et al. 2023,
    arXiv:2004.03844). `evenly_spaced` runs from the first to the last, so 3 of 6 is [0, 2, 5]; 1 is the last alone.
    """
    if selection == "first":
        return list(range(count))
    return [total - 1] if count == 1 else [round(i * (total - 1) / (count - 1)) for i in range(count)]


def build_student(
    teacher_checkpoint: str, params: StudentParams
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, dict[str, str | None]]:
    """A student with the teacher's labels and tokenizer, the shape in `params`, and the start that `params.init` names.

    `teacher` copies the teacher's embeddings, selected layers and head (like DistilBERT, Sanh et al. 2019,
    arXiv:1910.01108); a checkpoint provides embeddings and layers under a fresh head; `random` copies nothing.

    Returns:
        (student, tokenizer, origin of what it started from, as in `locate.Located`)

    Raises:
        InputError: the layers to copy do not exist or do not fit, naming the key of params.yaml.
    """
    teacher = load_model(teacher_checkpoint)
    tokenizer = load_tokenizer(teacher_checkpoint)
    config = copy.deepcopy(teacher.config)
    if is_pruned(config):
        del config.pruned_structure  # the student has all the heads that `params` asks for
    for key, attribute in _shape(config).items():
        setattr(config, attribute, getattr(params, key))
    adapter = architecture_of(config.model_type)
    for key in adapter.same_width:
        setattr(config, key, params.hidden_size)
    deep = teacher.config.num_hidden_layers
    layers = [layer % deep for layer in select_layers(params.layers, deep, params.layer_selection)]
    choose_layers(config, teacher.config, layers)
    student = AutoModelForSequenceClassification.from_config(config).eval()
    origin = {"checkpoint": params.init, "revision": None, "commit": None}
    if params.init == "random":
        return student, tokenizer, origin
    if params.init == "teacher":
        source = teacher
    else:
        located = locate(params.init, params.revision, "student", "init")
        origin, source = located.origin, load_model(located.folder, headless=True)
        if load_tokenizer(located.folder).get_vocab() != tokenizer.get_vocab():
            raise InputError(f"params.yaml: student.init: `{params.init}` has another vocabulary than the teacher")
    _check_fit(source.config, params, student.config)
    layers = select_layers(params.layers, source.config.num_hidden_layers, params.layer_selection)
    _check_alike(source, student, layers, params)
    copy_layers(source, student, layers, head=source is teacher)
    return student, tokenizer, origin


def _shape(config: PreTrainedConfig) -> dict[str, str]:
    """Key of `StudentParams` -> the attribute of a model's configuration."""
    return {
        "hidden_size": "hidden_size",
        "attention_heads": "num_attention_heads",
        "intermediate_size": architecture_of(config.model_type).intermediate_size,
    }


def choose_layers(config: PreTrainedConfig, source: PreTrainedConfig, layers: list[int]) -> None:
    """Give `config` these layers of `source`: their number, and what `source` says of each."""
    config.num_hidden_layers = len(layers)
    for key in architecture_of(config.model_type).per_layer:
        setattr(config, key, [getattr(source, key)[layer] for layer in layers])


def _check_fit(source: PreTrainedConfig, params: StudentParams, student: PreTrainedConfig) -> None:
    if is_pruned(source):
        raise InputError(
            f"params.yaml: student.init: `{params.init}` is pruned, so its layers fit no other model; "
            "take `init: random` or a checkpoint with all its heads"
        )
    if source.model_type != student.model_type:
        raise InputError(
            f"params.yaml: student.init: `{params.init}` is a {source.model_type}, the teacher a {student.model_type}"
        )
    for key, attribute in _shape(source).items():
        theirs, ours = getattr(source, attribute), getattr(params, key)
        if theirs != ours:
            raise InputError(
                f"params.yaml: student.{key}: {ours} does not fit `student.init: {params.init}`, which has {theirs}; "
                "set it to that, or take `init: random` or a checkpoint of this width"
            )
    if params.layers > source.num_hidden_layers:
        raise InputError(
            f"params.yaml: student.layers: {params.layers} is more than the {source.num_hidden_layers} "
            f"of `student.init: {params.init}`"
        )


def _check_alike(source: PreTrainedModel, student: PreTrainedModel, layers: list[int], params: StudentParams) -> None:
    """Raise an error where what is copied from these layers of `source` is not there, or of another size or kind."""
    for key in architecture_of(student.config.model_type).per_layer:
        if [getattr(source.config, key)[layer] for layer in layers] != list(getattr(student.config, key)):
            raise InputError(
                f"params.yaml: student.init: the layers {layers} of `{params.init}` have other {key} than the "
                "teacher's; take `init: teacher` or `init: random`"
            )
    own, there = student.state_dict(), source.state_dict()
    for name, old in _copied(student, layers, head=False).items():
        size = list(own[name].shape)
        if old not in there or list(_first_positions(there[old], own[name], old).shape) != size:
            raise InputError(
                f"params.yaml: student.init: `{params.init}` has no `{old}` of size {size}, as the teacher's kind of "
                "network needs; take `init: teacher` or `init: random`"
            )


@torch.no_grad()
def copy_layers(source: PreTrainedModel, student: PreTrainedModel, layers: list[int], head: bool) -> None:
    """Copy embeddings and the encoder layers with these indices (and the classification head) into `student`.

    A student that takes shorter texts gets the first positions.
    """
    whole, own = source.state_dict(), student.state_dict()
    for name, old in _copied(student, layers, head).items():
        own[name].copy_(_first_positions(whole[old], own[name], name))


def _first_positions(tensor: torch.Tensor, own: torch.Tensor, name: str) -> torch.Tensor:
    """A tensor to be copied, of which a student with fewer positions gets the first ones."""
    return tensor[: len(own)] if "position_embeddings" in name else tensor


def _copied(student: PreTrainedModel, layers: list[int], head: bool) -> dict[str, str]:
    """Name of a tensor of `student` -> its name in the source that these layers are copied from."""
    backbone, adapter = f"{student.base_model_prefix}.", architecture_of(student.config.model_type)
    number = re.compile(rf"(?<=^{re.escape(backbone + adapter.layers)}\.)\d+(?=\.)")
    places_there = places(student.config, layers)
    names = [name for name in student.state_dict() if name.startswith(backbone) or head]
    return {name: number.sub(lambda match: str(places_there[int(match.group())]), name) for name in names}
