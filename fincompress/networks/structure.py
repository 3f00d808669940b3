"""Surgery: remove attention heads and feed-forward neurons from an encoder for good, and load the result again.

What is left is recorded as plain JSON in the model's configuration, under `pruned_structure`, so that config.json and
model.safetensors are all that `checkpoints.load_model` needs. Most attention modules of transformers 5 infer their
number of heads from the width of their projections, so smaller projections are enough: nothing is masked. Those that
count heads are told the new number, and a bias for every head is cut to the heads that are left when it is used.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, cast

import numpy as np
import torch
from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, PreTrainedConfig, PreTrainedModel

from fincompress.core.errors import InputError
from fincompress.networks.architectures import architecture_of


@dataclass(frozen=True)
class Structure:
    """What an encoder still has: for each layer, its heads by their original index and its feed-forward width.

    Layers that share their weights are one here (see `places`).
    """

    kept_heads: list[list[int]]
    ffn_widths: list[int]


def is_pruned(config: PreTrainedConfig) -> bool:
    """Whether a configuration says that heads or neurons were removed."""
    return getattr(config, "pruned_structure", None) is not None


def structure_of(model: PreTrainedModel) -> Structure:
    """The heads and widths that `model` has now."""
    if is_pruned(model.config):
        return Structure(**model.config.pruned_structure)
    widths = [linear.in_features for linear in linears(model, "output")]
    return Structure([list(range(model.config.num_attention_heads)) for _ in widths], widths)


def head_size(config: PreTrainedConfig) -> int:
    """The width of one head, which pruning does not change."""
    return config.hidden_size // config.num_attention_heads


def passes(config: PreTrainedConfig) -> int:
    """How often an encoder layer runs for a text: once, or as often as there are layers where these share weights."""
    return config.num_hidden_layers if architecture_of(config.model_type).shared_layers else 1


def places(config: PreTrainedConfig, layers: Sequence[int]) -> list[int]:
    """Where in `encoder_layers` these layers are, without repetition: all in one place where they share weights."""
    return [0] if architecture_of(config.model_type).shared_layers else list(layers)


def encoder_layers(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The encoder's layers, in order."""
    return list(model.base_model.get_submodule(architecture_of(model.config.model_type).layers).children())


def linears(model: PreTrainedModel, part: str) -> list[torch.nn.Linear]:
    """The linear layer `part` (a field of `Architecture`) of every encoder layer, in order."""
    return _at(model, getattr(architecture_of(model.config.model_type), part))


def residuals(model: PreTrainedModel, part: str) -> list[torch.nn.Module]:
    """Of every encoder layer, the module whose input the output of `part` is added to.

    Args:
        part: `attention_output` or `output`.
    """
    adapter = architecture_of(model.config.model_type)
    own = adapter.attention_residual if part == "attention_output" else adapter.output_residual
    path = own or (adapter.query if part == "attention_output" else adapter.intermediate)
    return [layer.get_submodule(path) for layer in encoder_layers(model)]


def head_projections(model: PreTrainedModel) -> list[tuple[list[torch.nn.Linear], int]]:
    """Linear layers with rows for each head, those of all encoder layers together, each with its number of matrices."""
    adapter, first = architecture_of(model.config.model_type), encoder_layers(model)[0]
    absent = {path for path in adapter.position_projections if not _has(first, path)}
    return [(_at(model, path), count) for path, count in adapter.by_head.items() if path not in absent]


def hands_on_unchanged(model: PreTrainedModel) -> bool:
    """Whether what comes out of an encoder layer is what goes into the next."""
    between = architecture_of(model.config.model_type).between_layers
    return between is None or not _has(model.base_model, between)


def _at(model: PreTrainedModel, path: str) -> list[torch.nn.Linear]:
    return [cast(torch.nn.Linear, layer.get_submodule(path)) for layer in encoder_layers(model)]


def _has(module: torch.nn.Module, path: str) -> bool:
    """Whether there is a module at this path, and not None."""
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return True


def remove(model: PreTrainedModel, heads: Collection[tuple[int, int]], neurons: list[np.ndarray] | None = None) -> None:
    """Remove heads and feed-forward neurons from `model` in place, and record what is left in its configuration.

    With a head go its rows of query, key and value (and of what projects positions) and its columns of the attention
    output; with a neuron, its row of the intermediate (and of its gate) and its column of the output projection. The
    biases of both outputs stay. Where layers share their weights, a head goes from all of them.

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
    _keep(model, positions, kept_neurons, kept_heads)
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
            positions = [range(len(heads)) for heads in structure.kept_heads]
            _keep(self, positions, map(np.arange, structure.ffn_widths), structure.kept_heads)

    PrunedClassifier.__name__ = base.__name__  # config.json names the architecture after it
    return PrunedClassifier


def _keep(
    model: PreTrainedModel, heads: Iterable[Any], neurons: Iterable[Any], originals: Sequence[Sequence[int]]
) -> None:
    """Reduce every layer to the heads and neurons at these current positions.

    Args:
        originals: for each layer, the original indices of the heads that it keeps.
    """
    size, adapter = head_size(model.config), architecture_of(model.config.model_type)
    rows = [(np.asarray(positions)[:, None] * size + np.arange(size)).ravel() for positions in heads]
    _count_heads(model, originals)
    for found, count in head_projections(model):
        for linear, kept in zip(found, rows, strict=True):
            _shrink(linear, kept, 0, count)
    columns = list(neurons)
    for part, indices, dim in (("attention_output", rows, 1), ("intermediate", columns, 0), ("output", columns, 1)):
        for linear, kept in zip(linears(model, part), indices, strict=True):
            _shrink(linear, kept, dim, 2 if adapter.gated and part == "intermediate" else 1)


def _count_heads(model: PreTrainedModel, originals: Sequence[Sequence[int]]) -> None:
    """Tell attention modules that count their heads how many they keep, or which, before the others go."""
    adapter = architecture_of(model.config.model_type)
    if adapter.attention is None:
        return
    size = head_size(model.config)
    for layer, linear, kept in zip(encoder_layers(model), linears(model, "attention_output"), originals, strict=True):
        module: Any = layer.get_submodule(adapter.attention)
        for name in adapter.head_counts:
            setattr(module, name, getattr(module, name) * len(kept) * size // linear.in_features)
        if adapter.head_bias is not None and len(kept) < model.config.num_attention_heads:
            if not hasattr(module, "kept_heads"):
                module.register_forward_pre_hook(partial(_select_bias, adapter.head_bias))
            module.kept_heads = list(kept)


def _select_bias(place: int, module: Any, arguments: tuple) -> tuple:
    """Arguments of an attention module with the bias at `place`, [batch, heads, seq, seq], of the heads it keeps."""
    bias = arguments[place]
    chosen = bias.index_select(1, torch.tensor(module.kept_heads, device=bias.device))
    return (*arguments[:place], chosen, *arguments[place + 1 :])


def _shrink(linear: torch.nn.Linear, kept: np.ndarray, dim: int, matrices: int) -> None:
    """Keep these output rows (`dim` 0) or input columns (`dim` 1) of a linear layer, in place.

    Args:
        matrices: how many stand one above another, each of which keeps these rows.
    """
    height = linear.weight.shape[dim] // matrices
    index = torch.as_tensor((np.arange(matrices)[:, None] * height + kept).ravel(), device=linear.weight.device)
    linear.weight = torch.nn.Parameter(linear.weight.detach().index_select(dim, index))
    if dim == 0 and linear.bias is not None:
        linear.bias = torch.nn.Parameter(linear.bias.detach().index_select(0, index))
    linear.out_features, linear.in_features = linear.weight.shape
