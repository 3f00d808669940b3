"""What a network computes on the way to its logits: hidden states, and attention before the softmax."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode
from transformers import PreTrainedModel

from fincompress.networks.architectures import architecture_of
from fincompress.networks.structure import head_size, linears

_SOFTMAX = (torch.softmax, torch.Tensor.softmax, functional.softmax)


def with_states(model: torch.nn.Module, inputs: Mapping[str, torch.Tensor]) -> tuple[Any, tuple[torch.Tensor, ...]]:
    """Run `model`, in DistributedDataParallel or not, and take its hidden states.

    transformers gives the last one after the normalisation that follows the last layer, where there is one; here it is
    as it comes out of the layer, like the others.

    Returns:
        The model's outputs, and the output of the embedding and of every layer, each [batch, seq, width].
    """
    network: Any = getattr(model, "module", model)
    final_norm = architecture_of(network.config.model_type).final_norm
    if final_norm is None:
        outputs = model(**inputs, output_hidden_states=True)
        return outputs, outputs.hidden_states
    last: list[torch.Tensor] = []
    norm = network.base_model.get_submodule(final_norm)
    handle = norm.register_forward_pre_hook(lambda _module, arguments: last.append(arguments[0]))
    try:
        outputs = model(**inputs, output_hidden_states=True)
    finally:
        handle.remove()
    return outputs, (*outputs.hidden_states[:-1], last[-1])


@contextmanager
def attention_scores(model: PreTrainedModel, layers: list[int]) -> Iterator[Callable[[int], torch.Tensor]]:
    """What these layers compute before the softmax, free of the dropout of attention.

    Where that is QKᵀ/√d, it is computed from the queries and keys, in fp32 even where the model runs in half precision
    (bf16 would round a score of 20 by up to 0.06), and whatever implementation of attention the model runs with. Where
    it has further terms, of positions, it is what the model itself gives to the softmax.

    Yields:
        Once the block has run the model: layer -> its scores [batch, heads, seq, seq], which have gradients; NaN, if
        the model's own, where a position does not attend to another.
    """
    if architecture_of(model.config.model_type).plain_scores:
        with _queries_and_keys(model, layers) as (queries, keys):
            yield lambda layer: queries[layer] @ keys[layer].transpose(2, 3) / queries[layer].shape[-1] ** 0.5
    else:
        with _before_softmax(model) as seen:
            yield lambda layer: _unmasked(seen, layer, model.config.num_hidden_layers)


@contextmanager
def _queries_and_keys(
    model: PreTrainedModel, layers: list[int]
) -> Iterator[tuple[dict[int, torch.Tensor], dict[int, torch.Tensor]]]:
    """The queries and keys of these layers, each layer -> [batch, heads, seq, head size], once the block has run."""
    queries: dict[int, torch.Tensor] = {}
    keys: dict[int, torch.Tensor] = {}
    size, handles = head_size(model.config), []

    def keep(given: dict[int, torch.Tensor], layer: int) -> Callable[..., None]:
        def hook(module, inputs, output):
            given[layer] = output.float().unflatten(-1, (-1, size)).transpose(1, 2)

        return hook

    for part, given in (("query", queries), ("key", keys)):
        projections = linears(model, part)
        handles += [projections[layer].register_forward_hook(keep(given, layer)) for layer in sorted(set(layers))]
    try:
        yield queries, keys
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _before_softmax(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """What goes into every softmax over a row of attention, in the order of the layers, once the block has run."""
    before = model.config._attn_implementation
    model.set_attn_implementation("eager")  # others have no softmax of their own
    try:
        with _Softmax() as mode:
            yield mode.seen
    finally:
        model.set_attn_implementation(before)


class _Softmax(TorchFunctionMode):
    """Keeps what goes into a softmax of four dimensions."""

    def __init__(self):
        super().__init__()
        self.seen: list[torch.Tensor] = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _SOFTMAX and args[0].dim() == 4:
            self.seen.append(args[0])
        return func(*args, **(kwargs or {}))


def _unmasked(seen: list[torch.Tensor], layer: int, layers: int) -> torch.Tensor:
    """The scores of a layer, with NaN where a mask has made them the least number there is, or nearly."""
    if len(seen) != layers:
        raise RuntimeError(f"{len(seen)} softmaxes over attention were seen in {layers} layers")
    scores = seen[layer]
    return scores.float().masked_fill(scores < torch.finfo(scores.dtype).min / 2, torch.nan)
