"""The tiny student: a trained network with fewer layers, heads, neurons and word pieces, and smaller embeddings.

What is left of the network is trained towards the teacher's soft labels, and layer by layer towards what it was itself
before anything was taken out, as in CoFi (Xia et al. 2022, arXiv:2204.00408).
"""

import copy
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from fincompress.compress.factorised_embeddings import check_factorisable, factorised
from fincompress.compress.hidden_layers import Compared, Targets, hidden_mse, teacher_targets
from fincompress.compress.pruning import importance_of, scoring_rows, take_out
from fincompress.compress.soft_labels import batch_loss, model_inputs
from fincompress.compress.student import choose_layers, copy_layers, select_layers
from fincompress.compress.vocabulary import fixed_front, prune_embedding, prune_vocabulary, rows_of
from fincompress.core.errors import InputError
from fincompress.core.sections import TinyParams
from fincompress.networks.architectures import architecture_of
from fincompress.networks.internals import with_states
from fincompress.networks.structure import Structure, classifier_class, places, structure_of
from fincompress.networks.training import Objective


def build_tiny(
    source: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    scored: Dataset,
    texts: Sequence[str],
    params: TinyParams,
    seed: int,
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """A network of the shape in `params`, cut out of `source`, and its tokenizer.

    Args:
        source: changed in place.
        scored: labelled rows, tokenised for `source`, that say which heads and neurons matter.
        texts: those that say which word pieces are used.

    Raises:
        InputError: the source has fewer layers, heads or neurons than that, naming the key of params.yaml.
    """
    check_shape(source, params)
    layers = select_layers(params.layers, source.config.num_hidden_layers, params.layer_selection)
    _shrink_layers(source, tokenizer, scoring_rows(scored, params, seed), layers, params, seed)
    model = with_layers(source, layers, tokenizer.model_max_length)
    if params.vocabulary_min_count is not None:
        pruned = prune_vocabulary(tokenizer, texts, params.vocabulary_min_count, fixed_front(model.config))
        prune_embedding(model, pruned.rows)
        tokenizer = pruned.tokenizer
    if params.embedding_size is not None:
        model = factorised(model, params.embedding_size)
        tokenizer.model_input_names = list(architecture_of(model.config.model_type).inputs)
    return model, tokenizer


def check_shape(source: PreTrainedModel, params: TinyParams) -> None:
    """Raise an error where `params` asks for more than the source has."""
    structure = structure_of(source)
    has = {
        "layers": source.config.num_hidden_layers,
        "attention_heads": min(map(len, structure.kept_heads)),
        "intermediate_size": min(structure.ffn_widths),
    }
    for key, most in has.items():
        if getattr(params, key) > most:
            raise InputError(
                f"params.yaml: tiny.{key}: {getattr(params, key)} is more than the {most} of {params.source}"
            )
    if params.embedding_size is not None:
        try:
            check_factorisable(source)
        except InputError as error:
            raise InputError(f"params.yaml: tiny.embedding_size: {error}; null leaves embeddings as they are") from None
    if params.embedding_size == source.config.hidden_size:
        raise InputError(
            f"params.yaml: tiny.embedding_size: {params.embedding_size} is the network's width; null leaves "
            "embeddings as they are"
        )


def _shrink_layers(
    source: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    scored: Dataset,
    layers: list[int],
    params: TinyParams,
    seed: int,
) -> None:
    """Leave only as many heads and neurons as `params` says in these layers, the most important ones."""
    structure, layers = structure_of(source), places(source.config, layers)
    kept = [structure.kept_heads[layer] for layer in layers]
    if all(len(heads) == params.attention_heads for heads in kept) and all(
        structure.ffn_widths[layer] == params.intermediate_size for layer in layers
    ):
        return
    source.to(torch.device("cuda" if torch.cuda.is_available() else "cpu"))  # type: ignore[arg-type]  # takes devices
    of_heads, of_neurons = importance_of(source, tokenizer, scored, params.importance, seed)
    heads = []
    neurons = [np.array([], dtype=int) for _ in of_neurons]
    for layer in layers:
        there = structure.kept_heads[layer]
        order = np.argsort(of_heads[layer], kind="stable")  # NaN, for heads that are gone already, sorts last
        heads += [(layer, int(head)) for head in order[: len(there) - params.attention_heads]]
        surplus = len(of_neurons[layer]) - params.intermediate_size
        neurons[layer] = np.argsort(of_neurons[layer], kind="stable")[:surplus]
    take_out(source, tokenizer, scored, heads, neurons, params.importance)


def with_layers(model: PreTrainedModel, layers: list[int], positions: int) -> PreTrainedModel:
    """A classifier of these encoder layers alone, in order, that takes at most `positions` word pieces."""
    config, structure = copy.deepcopy(model.config), structure_of(model)
    architecture, kept = architecture_of(config.model_type), places(config, layers)
    choose_layers(config, model.config, layers)
    if architecture.position_table:
        longest = positions + architecture.reserved_positions
        config.max_position_embeddings = min(config.max_position_embeddings, longest)
    left = Structure([structure.kept_heads[place] for place in kept], [structure.ffn_widths[place] for place in kept])
    config.pruned_structure = asdict(left)
    if all(len(heads) == config.num_attention_heads for heads in left.kept_heads) and len(set(left.ffn_widths)) == 1:
        del config.pruned_structure  # any program can open what has all its heads, and layers that are alike
        setattr(config, architecture.intermediate_size, left.ffn_widths[0])
    student = classifier_class(config)(config)
    copy_layers(model, student, layers, head=True)
    return student.eval()


class AsSourceReads:
    """Targets for batches of the student's, whose word pieces have other ids than the source's."""

    def __init__(self, targets: Targets, ids: np.ndarray, inputs: list[str]):
        """
        Args:
            ids: the source's id of each of the student's pieces.
            inputs: names of what the source takes.
        """
        self._targets, self._ids, self._inputs = targets, torch.from_numpy(ids), inputs

    def __call__(self, batch: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        own = {name: batch[name] for name in (*self._inputs, "row") if name in batch}
        own["input_ids"] = self._ids.to(own["input_ids"].device)[own["input_ids"]]
        return self._targets(own)


def add_targets(
    dataset: Dataset,
    smaller: PreTrainedTokenizerBase,
    source: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    layers: list[int],
    folder: Path,
) -> tuple[Dataset, Targets]:
    """Work out what `tiny_objective` compares with: the hidden states of `source` after these layers.

    The source reads the very pieces that the student has, also where it would have split a rare word otherwise, so that
    every position of one is a position of the other.

    Args:
        dataset, smaller: rows as the student reads them, and its tokenizer.
        tokenizer: the source's.
        folder: as for `hidden_layers.teacher_targets`.

    Returns:
        (`dataset` with the column `row`, the targets of its rows).
    """
    ids = np.array(rows_of(smaller, tokenizer))
    translated = [ids[own].tolist() for own in dataset["input_ids"]]
    others = [name for name in tokenizer.model_input_names if name in dataset.column_names and name != "input_ids"]
    read_as = dataset.select_columns([*others, "length"]).add_column("input_ids", translated)
    compared = Compared(layers, groups=1, attention=None, embedding=False)
    _, targets = teacher_targets(read_as, source, tokenizer, compared, folder)
    return (
        dataset.add_column("row", list(range(len(dataset)))),
        AsSourceReads(targets, ids, tokenizer.model_input_names),
    )


def tiny_objective(params: TinyParams, targets: Targets | None) -> Objective:
    """`hinton_loss` plus the mean squared error of the hidden states after every layer, where there are targets."""

    def objective(model, batch):
        inputs = model_inputs(batch)
        outputs, hidden = (model(**inputs), ()) if targets is None else with_states(model, inputs)
        loss = batch_loss(outputs.logits, batch, params.temperature, params.alpha)
        if targets is not None:
            states = torch.stack(hidden[1:], dim=1)  # [batch, layers, seq, width]
            loss = loss + params.lambda_hidden * hidden_mse(states, targets(batch)[0], batch["attention_mask"])
        return loss, outputs

    return objective
