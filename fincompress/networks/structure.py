"""Surgery: remove attention heads and feed-forward neurons from an encoder for good, and load the result again.

What is left is recorded as plain JSON in the model's configuration, under `pruned_structure`, so that config.json and
model.safetensors are all that `checkpoints.load_model` needs. Attention modules of transformers 5 infer their number
of heads from the width of their projections, so smaller projections are enough: no module is subclassed or masked.
"""

from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass
from typing import Any, cast

import numpy as np
import torch
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedConfig, PreTrainedModel

from fincompress.core.errors import InputError
from fincompress.networks.architectures import architecture_of


@dataclass(frozen=True)
class Structure:
    """What an encoder still has: for each layer, its heads by their original index and its feed-forward width."""

    kept_heads: list[list[int]]
    ffn_widths: list[int]


def is_pruned(config: PreTrainedConfig) -> bool:
    """Whether a configuration says that heads or neurons were removed."""
    return getattr(config, "pruned_structure", None) is not None


def structure_of(model: PreTrainedModel) -> Structure:
    """The heads and widths that `model` has now."""
    if is_pruned(model.config):
        return Structure(**model.config.pruned_structure)
    widths = [linear.out_features for linear in linears(model, "intermediate")]
    return Structure([list(range(model.config.num_attention_heads)) for _ in widths], widths)


def head_size(config: PreTrainedConfig) -> int:
    """The width of one head, which pruning does not change."""
    return config.hidden_size // config.num_attention_heads


def encoder_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The encoder's layers, in order."""
    return list(model.base_model.get_submodule(architecture_of(model.config.model_type).layers).children())


def linears(model: PreTrainedModel, part: str) -> list[torch.nn.Linear]:
    """The linear layer `part` (a field of `Architecture`) of every encoder layer, in order."""
    name = getattr(architecture_of(model.config.model_type), part)
    return [cast(torch.nn.Linear, layer.get_submodule(name)) for layer in encoder_layers(model)]


def remove(model: PreTrainedModel, heads: Collection[tuple[int, int]], neurons: list[np.ndarray] | None = None) -> None:
    """Remove heads and feed-forward neurons from `model` in place, and record what is left in its configuration.

    With a head go its rows of query, key and value and its columns of the attention output; with a neuron, its row
    of the intermediate and its column of the output projection. The biases of both outputs stay.

    Args:
        heads: (layer, original index of the head) pairs; every layer must keep one.
        neurons: for each layer, the current indices of the neurons to remove; None removes none.
    """
    before = structure_of(model)
    neurons = neurons or [np.array([], dtype=int) for _ in before.ffn_widths]
    kept_heads, kept_neurons = [], []
    for layer, (old_heads, width) in enumerate(zip(before.kept_heads, before.ffn_widths, strict=True)):
        kept_heads.append([head for head in old_heads if (layer, head) not in heads])
        kept_neurons.append(np.setdiff1d(np.arange(width), neurons[layer]))
        if not kept_heads[-1] or not len(kept_neurons[-1]):
            raise ValueError(f"layer {layer} would be left without heads or neurons")
    positions = [[old.index(head) for head in new] for old, new in zip(before.kept_heads, kept_heads, strict=True)]
    _keep(model, positions, kept_neurons)
    model.config.pruned_structure = asdict(Structure(kept_heads, [len(kept) for kept in kept_neurons]))


def classifier_class(config: PreTrainedConfig) -> type[PreTrainedModel]:
    """The sequence classifier for `config`, whose `from_pretrained` also loads a pruned checkpoint.

    transformers alone builds all layers alike, and stops with a size mismatch at the first one that differs.

    Raises:
        InputError: transformers has no such classifier.
    """
    if type(config) not in MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING:
        raise InputError(f"transformers has no text classifier for a model of type `{config.model_type}`")
    base: Any = MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING[type(config)]
    if not is_pruned(config):
        return base

    class PrunedClassifier(base):
        def __init__(self, config):
            super().__init__(config)
            structure = Structure(**config.pruned_structure)
            _keep(self, [range(len(heads)) for heads in structure.kept_heads], map(np.arange, structure.ffn_widths))

    PrunedClassifier.__name__ = base.__name__  # config.json names the architecture after it
    return PrunedClassifier


def _keep(model: PreTrainedModel, heads: Iterable[Any], neurons: Iterable[Any]) -> None:
    """Reduce every layer to the heads and neurons at these current positions."""
    size = head_size(model.config)
    rows = [(np.asarray(positions)[:, None] * size + np.arange(size)).ravel() for positions in heads]
    neurons = list(neurons)
    for part, kept, dim in (
        ("query", rows, 0),
        ("key", rows, 0),
        ("value", rows, 0),
        ("attention_output", rows, 1),
        ("intermediate", neurons, 0),
        ("output", neurons, 1),
    ):
        for linear, indices in zip(linears(model, part), kept, strict=True):
            _shrink(linear, indices, dim)


def _shrink(linear: torch.nn.Linear, kept: np.ndarray, dim: int) -> None:
    """Keep these output rows (`dim` 0) or input columns (`dim` 1) of a linear layer, in place."""
    index = torch.as_tensor(kept, device=linear.weight.device)
    linear.weight = torch.nn.Parameter(linear.weight.detach().index_select(dim, index))
    if dim == 0:
        linear.bias = torch.nn.Parameter(linear.bias.detach().index_select(0, index))
    linear.out_features, linear.in_features = linear.weight.shape
