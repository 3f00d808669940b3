"""Unstructured magnitude pruning: single weights set to zero, kept there while the rest learns on, and counted.

A zero takes as much room and time in dense arithmetic as any number, so this makes no model smaller or faster on the
runtimes here; surgery does. It is for runtimes with sparse kernels, and for comparison.
"""

import torch
from torch.nn.utils.prune import L1Unstructured
from transformers import PreTrainedModel, TrainerCallback

from fincompress.networks.architectures import architecture_of
from fincompress.networks.structure import linears

KINDS = ("embeddings", "attention", "feed_forward", "classifier", "other")
_FEED_FORWARD = ("intermediate", "output")
_ATTENTION = ("query", "key", "value", "attention_output")


def prunable(model: PreTrainedModel) -> dict[str, torch.nn.Linear]:
    """Name -> every linear layer whose weights are pruned: those of the feed-forward parts and of the classifier."""
    paths = architecture_of(model.config.model_type).classifier
    modules = [linear for part in _FEED_FORWARD for linear in linears(model, part)]
    wanted = {id(module) for module in [*modules, *map(model.get_submodule, paths)]}
    return {name: module for name, module in model.named_modules() if id(module) in wanted}


@torch.no_grad()
def zero_smallest(model: PreTrainedModel, amount: float) -> None:
    """Set the share `amount` of each prunable layer's weights that is smallest in size to zero, in place.

    Han et al. 2015 (arXiv:1506.02626), by torch's `L1Unstructured`; biases stay.
    """
    pruning = L1Unstructured(amount)
    for linear in prunable(model).values():
        linear.weight *= pruning.compute_mask(linear.weight, torch.ones_like(linear.weight))


class HoldZeros(TrainerCallback):
    """Keeps every weight at zero that is zero when this is made: the masks are applied after each optimizer step."""

    def __init__(self, model: PreTrainedModel):
        self.masks = {name: linear.weight != 0 for name, linear in prunable(model).items()}

    @torch.no_grad()
    def on_optimizer_step(self, args, state, control, model=None, **kwargs):
        model = getattr(model, "module", model)  # several processes wrap it
        for name, mask in self.masks.items():
            weight = model.get_submodule(name).weight
            weight *= mask.to(weight.device)


def sparsity(model: PreTrainedModel, before: dict[str, int]) -> list[dict]:
    """What pruning left of each kind of layer, and of the whole: a row each.

    Args:
        before: kind -> parameters that the whole network had, as `count_kinds` gives them.

    Returns:
        `kind`, `parameters_before`, `parameters` (still stored), `zeros` (among them), `removed` (share of those before
        that surgery took out), `zeroed` (share of those stored that are 0) and `sparsity` (share of those before that
        are gone either way).
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
    """Kind of layer -> its parameters, or those of them that are not zero. LayerNorms are `other`."""
    kinds: dict[int, str] = {}
    for kind, parts in (("attention", _ATTENTION), ("feed_forward", _FEED_FORWARD)):
        kinds |= {id(linear): kind for part in parts for linear in linears(model, part)}
    classifier = architecture_of(model.config.model_type).classifier
    kinds |= {id(model.get_submodule(path)): "classifier" for path in classifier}
    counts = dict.fromkeys(KINDS, 0)
    for module in model.modules():
        kind = kinds.get(id(module), "embeddings" if isinstance(module, torch.nn.Embedding) else "other")
        for parameter in module.parameters(recurse=False):
            counts[kind] += int(parameter.count_nonzero()) if nonzero else parameter.numel()
    return counts
