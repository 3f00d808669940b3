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
from fincompress.networks.structure import is_pruned

_LAYER = re.compile(r"(?<=\.layer\.)\d+(?=\.)")


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
    config.num_hidden_layers = params.layers
    for key, attribute in _shape(config).items():
        setattr(config, attribute, getattr(params, key))
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
    _check_fit(source.config, params, student.config.model_type)
    layers = select_layers(params.layers, source.config.num_hidden_layers, params.layer_selection)
    copy_layers(source, student, layers, head=source is teacher)
    return student, tokenizer, origin


def _shape(config: PreTrainedConfig) -> dict[str, str]:
    """Key of `StudentParams` -> the attribute of a model's configuration."""
    return {
        "hidden_size": "hidden_size",
        "attention_heads": "num_attention_heads",
        "intermediate_size": architecture_of(config.model_type).intermediate_size,
    }


def _check_fit(source: PreTrainedConfig, params: StudentParams, model_type: str) -> None:
    if is_pruned(source):
        raise InputError(
            f"params.yaml: student.init: `{params.init}` is pruned, so its layers fit no other model; "
            "take `init: random` or a checkpoint with all its heads"
        )
    if source.model_type != model_type:
        raise InputError(
            f"params.yaml: student.init: `{params.init}` is a {source.model_type}, the teacher a {model_type}"
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


@torch.no_grad()
def copy_layers(source: PreTrainedModel, student: PreTrainedModel, layers: list[int], head: bool) -> None:
    """Copy embeddings and the encoder layers with these indices (and the classification head) into `student`.

    A student that takes shorter texts gets the first positions.
    """
    weights = source.state_dict()
    backbone = f"{student.base_model_prefix}."
    for name, tensor in student.state_dict().items():
        if name.startswith(backbone) or head:
            whole = weights[_LAYER.sub(lambda match: str(layers[int(match.group())]), name)]
            tensor.copy_(whole[: len(tensor)] if "position_embeddings" in name else whole)
