"""Factorised embeddings: a low-rank factorisation in a standard checkpoint. Codes (`embedding_codes`) lose far less.

In a small network most weights are embeddings. A table of rank r needs r numbers a piece instead of the network's width
(Lan et al. 2020, arXiv:1909.11942); ELECTRA (Clark et al. 2020, arXiv:2003.10555) is an architecture with such a table
and a projection, which transformers opens.
"""

from typing import cast

import torch
from torch import nn
from transformers import ElectraConfig, ElectraForSequenceClassification, PreTrainedConfig, PreTrainedModel

from fincompress.core.errors import InputError
from fincompress.networks.architectures import architecture_of
from fincompress.networks.structure import encoder_layers, is_pruned, linears

PARTS = ("query", "key", "value", "attention_output", "intermediate", "output")


def factorised(model: PreTrainedModel, size: int) -> ElectraForSequenceClassification:
    """The same network as an ELECTRA classifier with embeddings of `size` numbers a piece, projected to its width.

    The table, position and token type embeddings lie in the subspace of the table's largest singular values. ELECTRA
    normalises before it projects, BERT afterwards. Both are the same in a basis of the subspace in which every vector
    has mean 0, so what the encoder computes is exact if the subspace holds the embeddings, as it does from a `size` of
    the width plus 1 on. The head's hidden layer keeps its weights but has ELECTRA's activation (GELU), so the result
    has to be trained, as by distillation.

    Raises:
        InputError: `size` is below 2 or the width, or the embeddings are factorised already.
    """
    config = model.config
    if size < 2 or size == config.hidden_size:
        raise InputError(
            f"{size} numbers are no factorised embedding: take 2 or more, but not the width of the network"
        )
    check_factorisable(model)
    embeddings = cast(nn.Module, model.base_model.embeddings)
    word, position = (_weight(embeddings, f"{name}_embeddings") for name in ("word", "position"))
    if architecture_of(config.model_type).reserved_positions:  # those up to the padding's id are of no word piece
        position = position[config.pad_token_id + 1 :]
    kinds = torch.zeros(1, word.shape[1])
    if hasattr(embeddings, "token_type_embeddings"):
        kinds = _weight(embeddings, "token_type_embeddings")
    kinds = kinds.expand(2, -1) if len(kinds) == 1 else kinds  # ELECTRA's tokenizer may tell two kinds apart
    student = ElectraForSequenceClassification(_electra_config(config, size, len(word), len(position), len(kinds)))
    basis = _subspace(word, size)
    target = student.electra.embeddings
    norm = cast(nn.LayerNorm, embeddings.LayerNorm)
    with torch.no_grad():
        for name, rows in (("word", word), ("position", position), ("token_type", kinds)):
            getattr(target, f"{name}_embeddings").weight.copy_(_centred(rows) @ basis)
        target.LayerNorm.weight.fill_(1.0)
        target.LayerNorm.bias.zero_()
        scale = (word.shape[1] / size) ** 0.5  # a vector's spread is over `size` numbers there, and over the width here
        student.electra.embeddings_project.weight.copy_(norm.weight[:, None] * basis * scale)
        student.electra.embeddings_project.bias.copy_(norm.bias)
    _copy_layers(model, student)
    return student.eval()


def check_factorisable(model: PreTrainedModel) -> None:
    """Raise an error for a network whose embeddings are factorised, or whose layers ELECTRA's cannot stand for."""
    config = model.config
    if getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
        raise InputError(f"the embeddings of a model of type `{config.model_type}` are factorised already")
    if architecture_of(config.model_type).norms is None:
        raise InputError(
            f"a model of type `{config.model_type}` cannot have factorised embeddings, because ELECTRA, which has, "
            "attends in another way"
        )


def _weight(embeddings: nn.Module, name: str) -> torch.Tensor:
    return cast(nn.Embedding, getattr(embeddings, name)).weight.detach()


def _centred(rows: torch.Tensor) -> torch.Tensor:
    """Rows [n, width] less their own mean, which a normalisation takes away anyway."""
    return rows - rows.mean(dim=1, keepdim=True)


def _subspace(word: torch.Tensor, size: int) -> torch.Tensor:
    """An orthonormal basis [width, size] of the table's largest singular values in which every vector has mean 0.

    Of `size` numbers with mean 0, `size` - 1 are free. The columns are therefore those of the first `size` - 1 right
    singular vectors, turned by a matrix whose rows are orthogonal to (1, …, 1).
    """
    _, _, right = torch.linalg.svd(_centred(word.double()), full_matrices=False)
    kept = right[: size - 1].T  # [width, at most size - 1]
    ones = torch.ones(size, 1, dtype=torch.float64)
    full, _ = torch.linalg.qr(torch.cat([ones, torch.eye(size, dtype=torch.float64)[:, 1:]], dim=1))
    return (kept @ full[:, 1 : 1 + kept.shape[1]].T).float()


def _electra_config(config: PreTrainedConfig, size: int, pieces: int, positions: int, kinds: int) -> ElectraConfig:
    """That of the factorised network."""
    bert_names = {"dim": "hidden_size", "n_heads": "num_attention_heads", "n_layers": "num_hidden_layers"}
    value = {new: getattr(config, old, None) or getattr(config, new) for old, new in bert_names.items()}
    electra = ElectraConfig(
        vocab_size=pieces,
        embedding_size=size,
        intermediate_size=getattr(config, architecture_of(config.model_type).intermediate_size),
        max_position_embeddings=positions,
        type_vocab_size=kinds,
        hidden_act=getattr(config, "hidden_act", getattr(config, "activation", "gelu")),
        layer_norm_eps=getattr(config, "layer_norm_eps", 1e-12),
        pad_token_id=config.pad_token_id,
        id2label=config.id2label,
        label2id=config.label2id,
        **value,
    )
    if is_pruned(config):
        electra.pruned_structure = config.pruned_structure
    return electra


def _copy_layers(source: PreTrainedModel, student: ElectraForSequenceClassification) -> None:
    """Encoder layers and head of `source`, whatever heads and neurons it still has."""
    with torch.no_grad():
        for part in PARTS:
            for ours, theirs in zip(linears(student, part), linears(source, part), strict=True):
                _take(ours, theirs)
        own_names, other_names = (architecture_of(model.config.model_type) for model in (student, source))
        for own_norm, other_norm in zip(own_names.norms or (), other_names.norms or (), strict=True):
            for new, old in zip(encoder_layers(student), encoder_layers(source), strict=True):
                new.get_submodule(own_norm).load_state_dict(old.get_submodule(other_norm).state_dict())
        for own, other in zip(own_names.classifier, other_names.classifier, strict=True):
            _take(cast(nn.Linear, student.get_submodule(own)), cast(nn.Linear, source.get_submodule(other)))


def _take(ours: nn.Linear, theirs: nn.Linear) -> None:
    """Weights and shape of another linear layer, copied."""
    ours.weight, ours.bias = (nn.Parameter(tensor.detach().clone()) for tensor in (theirs.weight, theirs.bias))
    ours.out_features, ours.in_features = ours.weight.shape
