"""Iterative head pruning: score, remove the least important heads, recover by fine-tuning, repeat."""

import itertools
import math
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.compress.fisher import fisher_information, remove_refitted
from fincompress.compress.importance import by_original_index, head_importance, neuron_importance
from fincompress.core.errors import InputError
from fincompress.core.files import read_json, remove_folder
from fincompress.core.processes import agreed, wait
from fincompress.core.sections import PruneParams, ScoringParams
from fincompress.networks.batches import length_batches
from fincompress.networks.checkpoints import load_model, save
from fincompress.networks.scores import macro_f1
from fincompress.networks.structure import Structure, remove, structure_of
from fincompress.networks.training import train


def removal_schedule(structure: Structure, params: PruneParams, section: str, record: dict | None = None) -> list[int]:
    """How many heads are gone in total after each round; the last entry is `round(heads_fraction · heads)`.

    Args:
        structure: of the model before any pruning; fractions refer to its heads and neurons.
        section: the section of params.yaml to name in errors.
        record: of the model's earlier rounds, as `prune` returns it; None for a model that was never pruned.

    Raises:
        InputError: the fraction removes no head, the last head of a layer, or all neurons of one, or the model has
            already lost that much.
    """
    heads, layers = sum(map(len, structure.kept_heads)), len(structure.kept_heads)
    key = f"params.yaml: {section}.heads_fraction: {params.heads_fraction}"
    total = round(params.heads_fraction * heads)
    if total > heads - layers:
        raise InputError(
            f"{key} would remove {total} of {heads} heads, but each of the {layers} layers keeps one: "
            f"take at most {math.floor((heads - layers) / heads * 1000) / 1000}"
        )
    if total == 0:
        raise InputError(f"{key} removes none of {heads} heads: take at least {math.ceil(1000 / heads) / 1000}")
    width = min(structure.ffn_widths)
    neurons = f"params.yaml: {section}.ffn_fraction: {params.ffn_fraction}"
    if round(params.ffn_fraction * width) == width:
        raise InputError(f"{neurons} would remove all {width} neurons")
    last = record["rounds"][-1] if record else {"heads_removed": 0, "neurons_removed": 0}
    gone = last["heads_removed"]
    if total <= gone:
        raise InputError(f"{key} is {total} of {heads} heads, but `{section}.source` has lost {gone} already")
    if sum(round(params.ffn_fraction * width) for width in structure.ffn_widths) < last["neurons_removed"]:
        raise InputError(f"{neurons} is less than `{section}.source` has lost already")
    rounds = math.ceil((params.heads_fraction - gone / heads) / params.heads_per_round - 1e-9)
    steps = [gone + round(number * params.heads_per_round * heads) for number in range(rounds)] + [total]
    return [after for before, after in itertools.pairwise(steps) if after > before]


def least_important(importance: np.ndarray, count: int) -> list[tuple[int, int]]:
    """The `count` heads to remove, as (layer, head), least important first; ties go to the lower layer and head.

    The last head of a layer is passed over, however unimportant it is.

    Args:
        importance: [layers, heads], NaN where a head is already gone.
    """
    left = (~np.isnan(importance)).sum(axis=1)  # [layers]
    chosen: list[tuple[int, int]] = []
    for flat in np.argsort(importance, axis=None, kind="stable"):  # NaN sorts last
        layer, head = divmod(int(flat), importance.shape[1])
        if len(chosen) == count or np.isnan(importance[layer, head]):
            break
        if left[layer] > 1:
            left[layer] -= 1
            chosen.append((layer, head))
    if len(chosen) < count:
        raise ValueError(f"{count} heads cannot be removed: only {len(chosen)} are not the last of their layer")
    return chosen


def prune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_set: Dataset,
    val_set: Dataset,
    params: PruneParams,
    *,
    schedule: list[int],
    seed: int,
    scratch: Path,
    record: dict | None = None,
) -> tuple[PreTrainedModel, dict]:
    """Prune a fine-tuned classifier round by round along `schedule` (see `removal_schedule`).

    A round scores the heads on training texts, removes the least important ones, and recovers with the training loop
    of the other stages. Michel et al. (2019, arXiv:1905.10650) prune like this, without the recovery. Neurons are
    removed along with heads, the same share from every layer. By `fisher`, what is left is refitted before it recovers
    (see `importance_of` and `take_out`). Every finished round is stored whole in `scratch`, and the next one starts
    from that file, so a resumed run ends with the same weights.

    Args:
        record: of the model's earlier rounds, which is continued as though all had been one run.

    Returns:
        The pruned model, and its record: `start` (the whole model's `Structure`), `rounds` (one row per round, row 0
        being the whole model) and `importance` (one row per round and head present in it: its score, and whether it
        was kept).
    """
    torch.set_flush_denormal(True)  # as in training, so that a resumed round scores with the same arithmetic
    if record is None:
        start = structure_of(model)
        f1 = macro_f1(np.array(val_set["labels"]), predict(model, tokenizer, val_set))
        record = {"start": asdict(start), "rounds": [_round_row(model, 0, start, f1, f1)], "importance": []}
    start = Structure(**record["start"])
    rounds = dict(enumerate(schedule, start=len(record["rounds"])))
    for number, target in rounds.items():
        finished = scratch / f"round-{number}"
        if finished.is_dir():  # appears whole or not at all
            model, record = load_model(str(finished)), read_json(finished / "training.json")
            continue
        gone = target - record["rounds"][-1]["heads_removed"]
        share = params.ffn_fraction * target / schedule[-1]
        importance, heads = _remove_least(model, tokenizer, train_set, params, gone, share, start, seed)
        pruned = macro_f1(np.array(val_set["labels"]), predict(model, tokenizer, val_set))
        recovery = scratch / f"recovery-{number}"
        summary = train(
            model,
            tokenizer,
            train_set,
            val_set,
            params,
            seed=seed,
            scratch=recovery,
            curves=recovery / "published",
        )
        record["rounds"].append(_round_row(model, number, start, pruned, summary["val_macro_f1"]))
        record["importance"] += _importance_rows(number, importance, heads)
        save(model, tokenizer, finished, record)
        wait()
        model = load_model(str(finished))
        remove_folder(recovery)
        print(
            f"round {number}/{max(rounds)}: {target} of {sum(map(len, start.kept_heads))} heads removed, "
            f"val macro F1 {pruned:.4f}, recovered {summary['val_macro_f1']:.4f}",
            flush=True,
        )
    return model, record


def _remove_least(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train_set: Dataset,
    params: PruneParams,
    gone: int,
    share: float,
    start: Structure,
    seed: int,
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Take the `gone` least important heads out of `model`, and neurons until `share` of those at the start are gone.

    Returns:
        The importance of every head, [layers, heads], and those removed, as (layer, head).
    """
    model.eval().to("cuda" if torch.cuda.is_available() else "cpu")
    scored = scoring_rows(train_set, params, seed)
    importance, of_neurons = importance_of(model, tokenizer, scored, params.importance, seed, neurons=share > 0)
    heads = least_important(importance, gone)
    neurons = _least_neurons(of_neurons, share, start) if share else None
    heads, neurons = agreed((heads, neurons))
    take_out(model, tokenizer, scored, heads, neurons, params.importance)
    return importance, heads


def importance_of(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    criterion: str,
    seed: int,
    neurons: bool = True,
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Scores of all heads [layers, heads], NaN for those gone, and of every layer's neurons [current width].

    Args:
        criterion: `fisher` scores both (see `fisher.fisher_information`); any other scores heads (see
            `importance.head_importance`), and neurons have `importance.neuron_importance`.
        neurons: False spares the pass over the texts that these take; the list may then be empty.
    """
    if criterion == "fisher":
        of_heads, of_neurons = fisher_information(model, tokenizer, dataset)
        return by_original_index(model, of_heads), of_neurons
    importance = head_importance(model, tokenizer, dataset, criterion, seed)
    return importance, neuron_importance(model, tokenizer, dataset) if neurons else []


def take_out(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    dataset: Dataset,
    heads: list[tuple[int, int]],
    neurons: list[np.ndarray] | None,
    criterion: str,
) -> None:
    """Remove heads and neurons in place; where `fisher` chose them, refit the outputs of their layers on `dataset`."""
    if criterion == "fisher":
        remove_refitted(model, tokenizer, dataset, heads, neurons)
    else:
        remove(model, heads, neurons)


def scoring_rows(dataset: Dataset, params: ScoringParams, seed: int) -> Dataset:
    """The rows that heads and neurons are scored on: all, or a random draw of as many mini-batches as `params` says."""
    if params.importance_batches is None:
        return dataset
    count = min(len(dataset), params.importance_batches * params.batch_size)
    return dataset.shuffle(seed=seed).select(range(count))


@torch.inference_mode()
def predict(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, dataset: Dataset) -> np.ndarray:
    """Predicted label ids, [rows]."""
    model.eval()
    predictions = np.empty(len(dataset), dtype=np.int64)
    for rows, batch in length_batches(dataset, tokenizer):
        predictions[rows] = model(**batch.to(model.device)).logits.argmax(dim=-1).cpu().numpy()
    return predictions


def _least_neurons(scores: list[np.ndarray], share: float, start: Structure) -> list[np.ndarray]:
    """The least important neurons of every layer: as many as bring the total removed to `share`."""
    counts = [
        max(0, len(score) - (old - round(share * old))) for old, score in zip(start.ffn_widths, scores, strict=True)
    ]
    return [np.argsort(score, kind="stable")[:count] for score, count in zip(scores, counts, strict=True)]


def _round_row(model: PreTrainedModel, number: int, start: Structure, pruned: float, recovered: float) -> dict:
    """A row of rounds.csv; sparsity refers to the heads before any pruning."""
    heads = sum(map(len, start.kept_heads))
    now = structure_of(model)
    removed = heads - sum(map(len, now.kept_heads))
    return {
        "round": number,
        "heads_removed": removed,
        "heads_left": heads - removed,
        "head_sparsity": round(removed / heads, 6),
        "neurons_removed": sum(start.ffn_widths) - sum(now.ffn_widths),
        "parameters": model.num_parameters(),
        "val_macro_f1_pruned": round(pruned, 6),
        "val_macro_f1_recovered": round(recovered, 6),
    }


def _importance_rows(number: int, importance: np.ndarray, removed: list[tuple[int, int]]) -> list[dict]:
    """Rows of importance.csv: the heads present when the round began, by their original index."""
    return [
        {
            "round": number,
            "layer": int(layer),
            "head": int(head),
            "importance": float(f"{importance[layer, head]:.6g}"),
            "kept": int((layer, head) not in removed),
        }
        for layer, head in np.argwhere(~np.isnan(importance))
    ]
