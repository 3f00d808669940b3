"""How much each attention head and each feed-forward neuron matters: the scores that decide what is pruned."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from datasets import Dataset
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.networks.batches import length_batches
from fincompress.networks.structure import head_projections, head_size, linears, passes, places, structure_of


def head_importance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, criterion: str, seed: int
) -> np.ndarray:
    """Score every head of `model`; a higher score means more important.

    Args:
        dataset: tokenised and labelled rows, as `networks.batches.tokenise` makes them. The pipeline gives every
            criterion the same training texts.
        criterion: `entropy`, `attention`, `magnitude`, `gradient` or `random`; each is a function of this module.

    Returns:
        [layers, heads] by original index, float64; NaN for heads that are already gone.
    """
    if criterion == "random":
        scores = random_importance(model, seed)
    elif criterion == "magnitude":
        scores = magnitude_importance(model)
    else:
        measure = {"entropy": entropy_importance, "attention": attention_importance, "gradient": gradient_importance}
        scores = measure[criterion](model, tokenizer, dataset)
    return by_original_index(model, scores)


def by_original_index(model: PreTrainedModel, scores: Sequence[np.ndarray]) -> np.ndarray:
    """Scores of the heads that a model has, per layer [heads kept], as [layers, heads] with NaN for those gone."""
    heads = structure_of(model).kept_heads
    importance = np.full((len(heads), model.config.num_attention_heads), np.nan)
    for layer, (kept, values) in enumerate(zip(heads, scores, strict=True)):
        importance[layer, kept] = values
    return importance


@torch.inference_mode()
def entropy_importance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset
) -> list[np.ndarray]:
    """1 - the mean normalised entropy of a head's attention: a diffuse head counts as unimportant.

    The entropy of a query's attention over the n real positions of its sentence is divided by log n, its maximum,
    and averaged over all real queries of `dataset`. Padding is left out as query and as key. Entropy describes
    attention and knows nothing about the task: heads that attend to a single special token always score high.

    Returns:
        Per layer [heads kept], in [0, 1].
    """
    totals = [np.zeros(len(kept)) for kept in structure_of(model).kept_heads]
    queries = 0
    with _eager_attention(model):
        for _, batch in length_batches(dataset, tokenizer):
            batch = batch.to(model.device)
            mask = batch["attention_mask"]  # [batch, seq]
            attentions = model(**batch, output_attentions=True).attentions
            largest = torch.log(mask.sum(dim=1).clamp(min=2))  # [batch]; a single token has no entropy either way
            for layer, attention in enumerate(attentions):  # [batch, heads, seq, seq], those of every run of a layer
                entropy = torch.special.entr(attention * mask[:, None, None, :]).sum(dim=-1)
                normalised = entropy / largest[:, None, None] * mask[:, None, :]  # [batch, heads, seq]
                totals[places(model.config, [layer])[0]] += normalised.sum(dim=(0, 2)).double().cpu().numpy()
            queries += int(mask.sum()) * passes(model.config)
    return [1 - total / queries for total in totals]


@torch.inference_mode()
def attention_importance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset
) -> list[np.ndarray]:
    """The mean absolute value of a head's attention output, softmax(QKᵀ/√d)V, over the real positions.

    The weights softmax(QKᵀ/√d) themselves cannot rank heads by their mean: in every head, each query's sum to 1.

    Returns:
        Per layer [heads kept].
    """
    size = head_size(model.config)
    means = _mean_absolute_inputs(model, tokenizer, dataset, "attention_output")
    return [mean.reshape(-1, size).mean(axis=1) for mean in means]


def magnitude_importance(model: PreTrainedModel) -> list[np.ndarray]:
    """The Frobenius norm of a head's weights: its rows of query, key and value, and its columns of the output.

    Where positions have projections of their own, its rows of these count too.

    Returns:
        Per layer [heads kept].
    """
    size = head_size(model.config)
    squares = []
    for found, count, dim in [
        *((*rows, 1) for rows in head_projections(model)),
        (linears(model, "attention_output"), 1, 0),
    ]:
        weights = [linear.weight.detach().double() for linear in found]
        sums = [weight.square().sum(dim).view(count, -1, size).sum(dim=2).sum(dim=0) for weight in weights]
        squares.append([heads.cpu().numpy() for heads in sums])
    return [np.sqrt(sum(parts)) for parts in zip(*squares, strict=True)]


def gradient_importance(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset
) -> list[np.ndarray]:
    """E |dL/dξ| for a mask ξ = 1 on a head's output (Michel et al. 2019, arXiv:1905.10650, equation 2).

    The absolute value is taken for each sentence, averaged, and divided by the layer's L2 norm as in section 4.1 of
    the paper. L is the cross-entropy of a sentence.

    Returns:
        Per layer [heads kept].
    """
    model.eval()
    size = head_size(model.config)
    totals = [np.zeros(len(kept)) for kept in structure_of(model).kept_heads]
    labels = torch.tensor(dataset["labels"])
    with masked_inputs(linears(model, "attention_output"), size, passes(model.config)) as masks:
        for rows, batch in length_batches(dataset, tokenizer):
            logits = model(**batch.to(model.device)).logits
            loss = functional.cross_entropy(logits, labels[rows].to(model.device), reduction="sum")
            gradients = torch.autograd.grad(loss, list(masks.values()))
            for total, gradient in zip(totals, gradients, strict=True):  # [batch, heads]
                total += gradient.abs().sum(dim=0).double().cpu().numpy()
    means = [total / len(dataset) for total in totals]
    return [mean / max(float(np.linalg.norm(mean)), np.finfo(float).tiny) for mean in means]


@contextmanager
def masked_inputs(modules: Sequence[torch.nn.Linear], width: int, runs: int = 1) -> Iterator[dict[int, torch.Tensor]]:
    """Within the block, a mask of ones on every `width` inputs in a row of each of these linear layers.

    Args:
        runs: how often each of them runs in a forward pass; all runs of a pass have the same mask.

    Yields:
        Place in `modules` -> the mask of the last forward pass [batch, inputs / width], which has a gradient; in the
        order in which the layers ran.
    """
    masks: dict[int, torch.Tensor] = {}
    finished: Counter[int] = Counter()

    def apply(place: int, arguments: tuple, named: dict) -> tuple[tuple, dict]:
        (values,) = arguments  # [batch, seq, inputs]
        if finished[place] % runs == 0:
            masks[place] = values.new_ones(values.shape[0], values.shape[2] // width, requires_grad=True)
        finished[place] += 1
        return (values * masks[place].repeat_interleave(width, dim=1)[:, None, :],), named

    with before_each(modules, apply):
        yield masks


@contextmanager
def before_each(
    modules: Sequence[torch.nn.Module], hook: Callable[[int, tuple, dict], tuple[tuple, dict] | None]
) -> Iterator[None]:
    """Within the block, `hook` is called before each of these modules runs.

    Args:
        hook: takes the module's place in `modules`, its arguments and those by name; what it returns replaces both.
    """

    def at(place: int) -> Callable[..., tuple[tuple, dict] | None]:
        return lambda _module, arguments, named: hook(place, arguments, named)

    handles = [module.register_forward_pre_hook(at(place), with_kwargs=True) for place, module in enumerate(modules)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def random_importance(model: PreTrainedModel, seed: int) -> list[np.ndarray]:
    """A random number per head, the same in every round: the control that a criterion has to beat.

    Returns:
        Per layer [heads kept], in [0, 1).
    """
    heads = structure_of(model).kept_heads
    drawn = np.random.default_rng(seed).random((len(heads), model.config.num_attention_heads))
    return [drawn[layer, kept] for layer, kept in enumerate(heads)]


@torch.inference_mode()
def neuron_importance(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset) -> list[np.ndarray]:
    """E ‖aᵢ wᵢ‖₂: the mean size of what neuron i (activation aᵢ, output column wᵢ) adds to its layer's output.

    The mean is over the real positions of `dataset`.

    Returns:
        Per layer [current width].
    """
    means = _mean_absolute_inputs(model, tokenizer, dataset, "output")
    columns = [linear.weight.norm(dim=0).double().cpu().numpy() for linear in linears(model, "output")]
    return [mean * column for mean, column in zip(means, columns, strict=True)]


def _mean_absolute_inputs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset, part: str
) -> list[np.ndarray]:
    """Per layer, the mean size of each input of the linear layer `part` over the real positions of `dataset`."""
    modules = linears(model, part)
    totals = [np.zeros(linear.in_features) for linear in modules]

    def add(place: int, inputs: torch.Tensor, mask: torch.Tensor) -> None:
        sizes = inputs.abs() * mask[:, :, None]  # [batch, seq, features]
        totals[place] += sizes.sum(dim=(0, 1)).double().cpu().numpy()

    visit_inputs(model, tokenizer, dataset, modules, add)
    positions = sum(dataset["length"]) * passes(model.config)
    return [total / positions for total in totals]


@torch.inference_mode()
def visit_inputs(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    modules: Sequence[torch.nn.Module],
    visit: Callable[[int, torch.Tensor, torch.Tensor], None],
) -> None:
    """Run `model` once over `dataset` and show what goes into these modules.

    Args:
        visit: called in every forward pass with a layer's place in `modules`, its inputs [batch, seq, features] and the
            attention mask [batch, seq], 1 at real positions.
    """
    model.eval()
    mask: torch.Tensor | None = None

    def show(place: int, arguments: tuple, _named: dict) -> None:
        assert mask is not None, "set before the model runs"
        visit(place, arguments[0], mask)

    with before_each(modules, show):
        for _, batch in length_batches(dataset, tokenizer):
            batch = batch.to(model.device)
            mask = batch["attention_mask"]
            model(**batch)


@contextmanager
def _eager_attention(model: PreTrainedModel) -> Iterator[None]:
    """Switch to attention that returns its weights, which sdpa does not, and turn dropout off."""
    before = model.config._attn_implementation
    model.eval().set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(before)
