"""Pruning by Fisher information, with a least-squares refit of what is left (Kwon et al. 2022, arXiv:2204.09656).

Both look at texts alone, without labels. The information of a head or neuron says how far the network's answer moves if
it is taken out; the refit lets those that stay take over what they can of the others' output.
"""

import copy
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.compress.importance import before_each, masked_inputs
from fincompress.networks.batches import length_batches
from fincompress.networks.structure import (
    encoder_layers,
    hands_on_unchanged,
    head_size,
    linears,
    passes,
    remove,
    residuals,
    structure_of,
)

RIDGE = 1e-6  # of the mean size of an input, added to each, so that inputs that always agree share their weight


def fisher_information(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """E Σ_y p(y) (∂ log p(y) / ∂ξ)² for a mask ξ = 1 on the output of every head, and of every feed-forward neuron.

    The expectation is over the texts of `dataset` and over the answers y as the network itself gives them, so this is
    the true Fisher information, where the paper takes the squared gradient at the labels.

    Returns:
        Per layer [heads kept], and per layer [current width].
    """
    model.eval()
    size, heads, neurons = head_size(model.config), linears(model, "attention_output"), linears(model, "output")
    totals = [np.zeros(part.in_features // size) for part in heads] + [np.zeros(part.in_features) for part in neurons]
    runs = passes(model.config)
    with masked_inputs(heads, size, runs) as head_masks, masked_inputs(neurons, 1, runs) as neuron_masks:
        for _, batch in length_batches(dataset, tokenizer):
            log_p = functional.log_softmax(model(**batch.to(model.device)).logits, dim=-1)  # [batch, labels]
            masks = [*head_masks.values(), *neuron_masks.values()]
            for label, shares in enumerate(log_p.detach().exp().T):  # shares: [batch]
                gradients = torch.autograd.grad(log_p[:, label].sum(), masks, retain_graph=True)
                for total, gradient in zip(totals, gradients, strict=True):  # [batch, heads or neurons]
                    total += (shares[:, None] * gradient.square()).sum(dim=0).double().cpu().numpy()
    scores = [total / len(dataset) for total in totals]
    return scores[: len(heads)], scores[len(heads) :]


def remove_refitted(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    heads: Collection[tuple[int, int]],
    neurons: list[np.ndarray] | None = None,
) -> None:
    """`structure.remove`, and then weights of both outputs of every layer that bring it nearest to what it was.

    Layers are refitted one after another, from the first that loses something: each to the inputs that it has now that
    those before it are refitted, so that it also makes up for what they lost. Nearest is meant in the mean square, over
    the real positions of `dataset`, of a layer's sum with the residual. Biases stay. A layer that runs several times is
    refitted once, to the inputs that all its runs had before.

    Args:
        heads, neurons: as for `structure.remove`.
    """
    whole, before = copy.deepcopy(model), structure_of(model)
    remove(model, heads, neurons)
    after = structure_of(model)
    changed = [
        layer
        for layer in range(len(before.ffn_widths))
        if (before.kept_heads[layer], before.ffn_widths[layer]) != (after.kept_heads[layer], after.ffn_widths[layer])
    ]
    if changed:
        rerun = None if hands_on_unchanged(model) else lambda: _layer_calls(model, tokenizer, dataset)
        _refit(model, whole, _layer_calls(whole, tokenizer, dataset), min(changed), rerun)


@dataclass(frozen=True)
class _Call:
    """What an encoder layer is called with for a batch."""

    arguments: tuple  # the hidden states [batch, seq, width] first
    named: dict
    mask: torch.Tensor  # [batch, seq], 1 at real positions

    @property
    def hidden(self) -> torch.Tensor:
        return self.arguments[0]

    def run(self, layer: torch.nn.Module, hidden: torch.Tensor) -> torch.Tensor:
        """What `layer` makes of other hidden states."""
        output = layer(hidden, *self.arguments[1:], **self.named)
        return output if isinstance(output, torch.Tensor) else output[0]  # some layers return more


@torch.no_grad()
def _layer_calls(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset) -> list[list[_Call]]:
    """The calls of every layer, a batch each: [layers][batches]."""
    model.eval()
    layers = encoder_layers(model)
    calls: list[list[_Call]] = [[] for _ in layers]
    mask = torch.empty(0)

    def keep(place: int, arguments: tuple, named: dict) -> None:
        calls[place].append(_Call(arguments, named, mask))

    with before_each(layers, keep):
        for _, batch in length_batches(dataset, tokenizer):
            batch = batch.to(model.device)
            mask = batch["attention_mask"]
            model(**batch)
    return calls


@torch.no_grad()
def _refit(
    model: PreTrainedModel,
    whole: PreTrainedModel,
    calls: list[list[_Call]],
    first: int,
    rerun: Callable[[], list[list[_Call]]] | None,
) -> None:
    """Refit the outputs of the layers of `model` from `first` on to what `whole` computes in `calls`.

    Args:
        rerun: the calls of the layers of `model` as it is; None if each layer's input is what the one before gives.
    """
    hidden = [call.hidden for call in calls[first]]
    ours, theirs = (encoder_layers(network) for network in (model, whole))
    for place in range(first, len(calls)):
        for part in ("attention_output", "output"):
            own, other = (
                (linears(network, part)[place], residuals(network, part)[place]) for network in (model, whole)
            )
            size = own[0].in_features
            gram = torch.zeros(size, size, dtype=torch.float64, device=model.device)
            cross = torch.zeros(own[0].out_features, size, dtype=torch.float64, device=model.device)
            for call, now in zip(calls[place], hidden, strict=True):
                inputs, residual = _inputs(ours[place], own, now, call)
                old_inputs, old_residual = _inputs(theirs[place], other, call.hidden, call)
                wanted = old_inputs @ other[0].weight.double().T + old_residual - residual
                gram += inputs.T @ inputs
                cross += wanted.T @ inputs
            own[0].weight.copy_(fitted(own[0].weight, gram, cross))
        if rerun is None:
            hidden = [call.run(ours[place], now) for call, now in zip(calls[place], hidden, strict=True)]
        elif place + 1 < len(calls):
            hidden = [call.hidden for call in rerun()[place + 1]]


def _inputs(
    layer: torch.nn.Module, modules: Sequence[torch.nn.Module], hidden: torch.Tensor, call: _Call
) -> list[torch.Tensor]:
    """What goes into each of these modules of a layer at real positions, float64 [positions, features]."""
    seen: dict[int, torch.Tensor] = {}

    def keep(place: int, arguments: tuple, _named: dict) -> None:
        seen[place] = arguments[0][call.mask.bool()].double()

    with before_each(modules, keep):
        call.run(layer, hidden)
    return [seen[place] for place in range(len(modules))]


def fitted(weight: torch.Tensor, gram: torch.Tensor, cross: torch.Tensor) -> torch.Tensor:
    """The weights [out, in] of a linear layer whose outputs come nearest to what is wanted.

    Args:
        weight: those before, [out, in], which the ridge pulls towards.
        gram: XᵀX of the inputs [in, in], float64.
        cross: YᵀX of the wanted outputs and the inputs [out, in], float64.
    """
    ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    change = torch.linalg.solve(gram + ridge, (cross - weight.double() @ gram).T).T
    return (weight.double() + change).to(weight.dtype)
