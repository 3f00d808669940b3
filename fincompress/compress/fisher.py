"""Pruning by Fisher information, with a least-squares refit of what is left (Kwon et al. 2022, arXiv:2204.09656).

Both look at texts alone, without labels. The information of a head or neuron says how far the network's answer moves if
it is taken out; the refit lets those that stay take over what they can of the others' output.
"""

from collections.abc import Callable, Collection

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

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
    size, layers = head_size(model.config), len(structure_of(model).kept_heads)
    parts = [*linears(model, "attention_output"), *linears(model, "output")]
    totals = [np.zeros(part.in_features // (size if place < layers else 1)) for place, part in enumerate(parts)]
    masks: dict[int, torch.Tensor] = {}

    def masking(place: int, width: int) -> Callable[..., torch.Tensor]:
        def apply(_module, inputs):
            (values,) = inputs  # [batch, seq, features]
            masks[place] = values.new_ones(values.shape[0], values.shape[2] // width, requires_grad=True)
            return values * masks[place].repeat_interleave(width, dim=1)[:, None, :]

        return apply

    hooks = [
        part.register_forward_pre_hook(masking(place, size if place < layers else 1))
        for place, part in enumerate(parts)
    ]
    try:
        for _, batch in length_batches(dataset, tokenizer):
            log_p = functional.log_softmax(model(**batch.to(model.device)).logits, dim=-1)  # [batch, labels]
            ordered = [masks[place] for place in range(len(parts))]
            for label, shares in enumerate(log_p.detach().exp().T):  # shares: [batch]
                gradients = torch.autograd.grad(log_p[:, label].sum(), ordered, retain_graph=True)
                for total, gradient in zip(totals, gradients, strict=True):  # [batch, heads or neurons]
                    total += (shares[:, None] * gradient.square()).sum(dim=0).double().cpu().numpy()
    finally:
        for hook in hooks:
            hook.remove()
    scores = [total / len(dataset) for total in totals]
    return scores[:layers], scores[layers:]


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
    grams = {part: input_products(model, tokenizer, dataset, part) for part in ("attention_output", "output")}
    weights = {part: [linear.weight.detach().clone() for linear in linears(model, part)] for part in grams}
    remove(model, heads, neurons)
    gone = neurons or [np.array([], dtype=int) for _ in before.ffn_widths]
    kept: dict[str, list[np.ndarray]] = {part: [] for part in grams}
    for layer, (old, width) in enumerate(zip(before.kept_heads, before.ffn_widths, strict=True)):
        places = np.array([place for place, head in enumerate(old) if (layer, head) not in heads])
        kept["attention_output"].append((places[:, None] * size + np.arange(size)).ravel())
        kept["output"].append(np.setdiff1d(np.arange(width), gone[layer]))
    with torch.no_grad():
        for part, indices in kept.items():
            for linear, weight, gram, left in zip(
                linears(model, part), weights[part], grams[part], indices, strict=True
            ):
                linear.weight.copy_(refitted(weight, gram, left))


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


@torch.inference_mode()
def input_products(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, part: str
) -> list[torch.Tensor]:
    """Per layer, XᵀX of what goes into its linear layer `part` at the real positions of `dataset`, float64 [in, in]."""
    model.eval()
    modules = linears(model, part)
    products = [
        torch.zeros(one.in_features, one.in_features, dtype=torch.float64, device=model.device) for one in modules
    ]
    mask: torch.Tensor | None = None

    def add(module, inputs):
        assert mask is not None, "set before the model runs"
        rows = inputs[0][mask.bool()].double()  # [real positions, in]
        products[modules.index(module)] += rows.T @ rows

    hooks = [linear.register_forward_pre_hook(add) for linear in modules]
    try:
        for _, batch in length_batches(dataset, tokenizer):
            batch = batch.to(model.device)
            mask = batch["attention_mask"]
            model(**batch)
    finally:
        for hook in hooks:
            hook.remove()
    return products
