"""Pruning by Fisher information, with a least-squares refit of what is left (Kwon et al. 2022, arXiv:2204.09656).

Both look at texts alone, without labels. The information of a head or neuron says how far the network's answer moves if
it is taken out; the refit lets those that stay take over what they can of the others' output.
"""

from collections.abc import Collection, Sequence

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.compress.importance import masked_inputs, visit_inputs
from fincompress.networks.batches import length_batches
from fincompress.networks.structure import head_size, linears, remove, structure_of

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
    with masked_inputs(heads, size) as head_masks, masked_inputs(neurons, 1) as neuron_masks:
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
    """`structure.remove`, and then the weights of both outputs of every layer that come nearest to its old outputs.

    Nearest in the mean square over the real positions of `dataset`, for the inputs that the layer had before. Biases
    stay.

    Args:
        heads, neurons: as for `structure.remove`.
    """
    size, before = head_size(model.config), structure_of(model)
    outputs = [*linears(model, "attention_output"), *linears(model, "output")]
    grams = input_products(model, tokenizer, dataset, outputs)
    weights = [output.weight.detach().clone() for output in outputs]
    remove(model, heads, neurons)
    pairs = zip(before.kept_heads, structure_of(model).kept_heads, strict=True)
    places = [np.array([old.index(head) for head in new]) for old, new in pairs]
    kept = [(place[:, None] * size + np.arange(size)).ravel() for place in places]
    gone = neurons or [np.array([], dtype=int) for _ in before.ffn_widths]
    kept += [np.setdiff1d(np.arange(width), lost) for width, lost in zip(before.ffn_widths, gone, strict=True)]
    with torch.no_grad():
        for output, weight, gram, left in zip(outputs, weights, grams, kept, strict=True):
            output.weight.copy_(refitted(weight, gram, left))


def refitted(weight: torch.Tensor, gram: torch.Tensor, kept: np.ndarray) -> torch.Tensor:
    """The weights [out, kept] of a linear layer with fewer inputs that come nearest to what all inputs gave.

    Args:
        weight: [out, in].
        gram: XᵀX of the inputs [in, in], float64.
        kept: which inputs stay.
    """
    index = torch.as_tensor(kept, device=gram.device)
    among = gram[index][:, index]
    ridge = RIDGE * among.diagonal().mean() * torch.eye(len(index), dtype=gram.dtype, device=gram.device)
    # what is added to the kept weights stands for what went, so that the ridge pulls towards the old weights
    missing = (weight.double() @ gram)[:, index] - weight.double()[:, index] @ among
    change = torch.linalg.solve(among + ridge, missing.T).T
    return (weight.double()[:, index] + change).to(weight.dtype)


def input_products(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    modules: Sequence[torch.nn.Linear],
) -> list[torch.Tensor]:
    """For each of these linear layers, XᵀX of its inputs at the real positions of `dataset`, float64 [in, in]."""
    sizes = [module.in_features for module in modules]
    products = [torch.zeros(size, size, dtype=torch.float64, device=model.device) for size in sizes]

    def add(place: int, inputs: torch.Tensor, mask: torch.Tensor) -> None:
        rows = inputs[mask.bool()].double()  # [real positions, in]
        products[place] += rows.T @ rows

    visit_inputs(model, tokenizer, dataset, modules, add)
    return products
