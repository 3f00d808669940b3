"""Small embeddings: a low-rank factorisation in a standard checkpoint, and rows of four bits in an ONNX graph.

In a small network most weights are embeddings. A table of rank r needs r numbers a piece instead of the network's width
(Lan et al. 2020, arXiv:1909.11942); ELECTRA (Clark et al. 2020, arXiv:2003.10555) is an architecture with such a table
and a projection, which transformers opens.
"""

from typing import cast

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import nn
from transformers import ElectraConfig, ElectraForSequenceClassification, PreTrainedConfig, PreTrainedModel

from fincompress.core.errors import InputError
from fincompress.networks.architectures import architecture_of
from fincompress.networks.structure import is_pruned, linears

PARTS = ("query", "key", "value", "attention_output", "intermediate", "output")
BLOCK = 128  # columns of an embedding row that share a scale


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
    embeddings = cast(nn.Module, model.base_model.embeddings)
    if hasattr(model.base_model, "embeddings_project"):
        raise InputError(f"the embeddings of a model of type `{config.model_type}` are factorised already")
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
        for part in ("attention_norm", "output_norm"):
            for new, old in zip(_layers(student), _layers(source), strict=True):
                norm = old.get_submodule(getattr(other_names, part))
                new.get_submodule(getattr(own_names, part)).load_state_dict(norm.state_dict())
        for own, other in zip(own_names.classifier, other_names.classifier, strict=True):
            _take(cast(nn.Linear, student.get_submodule(own)), cast(nn.Linear, source.get_submodule(other)))


def _take(ours: nn.Linear, theirs: nn.Linear) -> None:
    """Weights and shape of another linear layer, copied."""
    ours.weight, ours.bias = (nn.Parameter(tensor.detach().clone()) for tensor in (theirs.weight, theirs.bias))
    ours.out_features, ours.in_features = ours.weight.shape


def _layers(model: PreTrainedModel) -> list[nn.Module]:
    return list(model.base_model.get_submodule(architecture_of(model.config.model_type).layers).children())


def with_four_bit_rows(graph: onnx.ModelProto) -> onnx.ModelProto:
    """`graph` with the embedding of word pieces in four bits, changed in place: a sixth of its size in fp32 or less.

    Every block of up to `BLOCK` numbers of a row has a scale of its own, and its numbers are multiples of that, from -8
    to 7. Only rows that a text uses are turned back into floats.

    Raises:
        InputError: no table is looked up by `input_ids`, or its width is no multiple of 16.
    """
    lookups = _lookups(graph)
    if not lookups:
        raise InputError("no embedding is looked up by `input_ids` in this graph")
    node, table = lookups[0]
    values = numpy_helper.to_array(table)
    block = next((size for size in (BLOCK, 64, 32, 16) if values.shape[1] % size == 0), None)
    if block is None:
        raise InputError(f"rows of {values.shape[1]} numbers cannot be cut into blocks; take a multiple of 16")
    codes, scales = four_bits(values, block)
    packed = onnx.helper.make_tensor(
        f"{table.name}_4bit", onnx.TensorProto.INT4, codes.shape, _packed(codes).tobytes(), raw=True
    )
    scale = numpy_helper.from_array(scales, f"{table.name}_scales")
    graph.graph.initializer.remove(table)
    graph.graph.initializer.extend([packed, scale])
    lookup = onnx.helper.make_node(
        "GatherBlockQuantized",
        [packed.name, node.input[1], scale.name],
        list(node.output),
        name=f"{node.name}_4bit",
        domain="com.microsoft",
        gather_axis=0,
        quantize_axis=1,
        block_size=block,
    )
    place = list(graph.graph.node).index(node)
    graph.graph.node.remove(node)
    graph.graph.node.insert(place, lookup)
    if not any(opset.domain == "com.microsoft" for opset in graph.opset_import):
        graph.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    graph.ir_version = max(graph.ir_version, 10)  # the first with numbers of four bits
    return graph


def four_bits(values: np.ndarray, block: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows [n, width] as whole numbers from -8 to 7 [n, width] and scales [n, width / block], float32.

    The number of largest magnitude in a block becomes -8, the end that the range has one more of.
    """
    blocks = values.reshape(len(values), -1, block)
    extreme = np.take_along_axis(blocks, np.abs(blocks).argmax(axis=2, keepdims=True), axis=2)
    scales = extreme / -8
    safe = np.where(scales == 0, 1, scales)
    codes = np.clip(np.round(blocks / safe), -8, 7).astype(np.int8)
    return codes.reshape(values.shape), scales[..., 0].astype(np.float32)


def _packed(codes: np.ndarray) -> np.ndarray:
    """Two numbers a byte, the first in the lower half."""
    nibbles = (codes.reshape(-1) & 0xF).astype(np.uint8)
    return nibbles[::2] | (nibbles[1::2] << 4)


def _lookups(graph: onnx.ModelProto) -> list[tuple[onnx.NodeProto, onnx.TensorProto]]:
    """Every table that is looked up by `input_ids`, and the node that does it."""
    tables = {tensor.name: tensor for tensor in graph.graph.initializer}
    return [
        (node, tables[node.input[0]])
        for node in graph.graph.node
        if node.op_type == "Gather" and node.input[1] == "input_ids" and node.input[0] in tables
    ]
