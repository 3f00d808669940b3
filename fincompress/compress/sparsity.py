"""Unstructured magnitude pruning: set single weights to zero, keep them there while the rest trains, count them.

In dense arithmetic a zero takes as much space and time as any number, so this makes no model smaller or faster on the
runtimes here; removing heads and neurons does. It is for runtimes with sparse kernels, and for comparison.
"""

import torch
from torch.nn.utils.prune import L1Unstructured
from transformers import PreTrainedModel, TrainerCallback

from fincompress.networks.architectures import architecture_of
from fincompress.networks.structure import head_projections, linears

KINDS = ("embeddings", "attention", "feed_forward", "classifier", "other")
_FEED_FORWARD = ("intermediate", "output")


def prunable(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """Name -> linear layer, for all whose weights are pruned: the feed-forward parts and the classifier."""
    paths = architecture_of(model.config.model_type).classifier
    modules = [linear for part in _FEED_FORWARD for linear in linears(model, part)]
    wanted = {id(module) for module in [*modules, *map(model.get_submodule, paths)]}
    return {name: module for name, module in model.named_modules() if id(module) in wanted}


@torch.no_grad()
def zero_smallest(model: PreTrainedModel, amount: float) -> None:
    """Set the smallest weights of each prunable layer to zero, in place; `amount` is their share.

    Han et al. 2015 (arXiv:1506.02626), by torch's `L1Unstructured`; biases stay.
    """
    pruning = L1Unstructured(amount)
    for linear in prunable(model).values():
        linear.weight *= pruning.compute_mask(linear.weight, torch.ones_like(linear.weight))


class HoldZeros(TrainerCallback):
    """Keeps weights at zero that are zero when this is created: masks are applied after each optimizer step."""

    def __init__(self, model: PreTrainedModel):
        self.masks = {name: linear.weight != 0 for name, linear in prunable(model).items()}

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model = getattr(model, "module", model)  # several processes wrap it
        for name, mask in self.masks.items():
            weight = model.get_submodule(name).weight
            weight *= mask.to(weight.device)


def sparsity(model: PreTrainedModel, before: dict[str, int]) -> list[dict]:
    """What pruning left of each kind of layer and of the whole network: one row each.

    Args:
        before: kind -> number of parameters before any pruning, as `count_kinds` returns it.

    Returns:
        `kind`, `parameters_before`, `parameters` (still stored), `zeros` (among those), `removed` (share of the
        parameters before that was taken out), `zeroed` (share of the stored ones that is 0) and `sparsity` (share of
        the parameters before that is gone either way).
    """
    stored, nonzero = count_kinds(model), count_kinds(model, nonzero=True)
    rows = []
    for kind in (*KINDS, "overall"):
        counts = [sum(table.values()) if kind == "overall" else table[kind] for table in (before, stored, nonzero)]
        whole, left, busy = counts
        rows.append(
            {
                "kind": kind,
                "parameters_before": whole,
                "parameters": left,
                "zeros": left - busy,
                "removed": round(1 - left / whole, 6),
                "zeroed": round(1 - busy / left, 6),
                "sparsity": round(1 - busy / whole, 6),
            }
        )
    return rows


def count_kinds(model: PreTrainedModel, nonzero: bool = False) -> dict[str, int]:
    """Kind of layer -> number of its parameters, or of those that are not zero. LayerNorms are `other`."""
    attention = [*(found for found, _ in head_projections(model)), linears(model, "attention_output")]
    kinds = {id(linear): "attention" for found in attention for linear in found}
    kinds |= {id(linear): "feed_forward" for part in _FEED_FORWARD for linear in linears(model, part)}
    classifier = architecture_of(model.config.model_type).classifier
    kinds |= {id(model.get_submodule(path)): "classifier" for path in classifier}
    counts = dict.fromkeys(KINDS, 0)
    for module in model.modules():
        kind = kinds.get(id(module), "embeddings" if isinstance(module, torch.nn.Embedding) else "other")
        for parameter in module.parameters(recurse=False):
            counts[kind] += int(parameter.count_nonzero()) if nonzero else parameter.numel()
    return counts
