"""What the library must know about an encoder that transformers does not say: one adapter per model type.

Everything else relies on these: loading, distillation, pruning, masks, export and serving. docs/architectures.md shows
how to add one to `ARCHITECTURES`. Nothing heavy is imported here, because serving reads it too.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fincompress.core.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """Where an encoder keeps its linear layers, which inputs it takes, and in what it differs from BERT.

    Paths are those of modules. Where query, key and value are one linear layer, all three name it: a layer that is
    named n times has n matrices of equal shape, one above another.
    """

    layers: str  # the list of encoder layers, below the base model
    query: str  # this and the next five are linear layers below an encoder layer
    key: str
    value: str
    attention_output: str
    intermediate: str
    output: str
    classifier: tuple[str, ...]  # linear layers between the encoder and the logits, below the classifier
    inputs: tuple[str, ...]  # what its forward pass takes, all [batch, seq]

    # keys of its configuration
    intermediate_size: str = "intermediate_size"
    reserved_positions: int = 0  # how many of max_position_embeddings no word piece can have: the padding's id, plus 1
    position_table: bool = True  # whether positions have embeddings, which a shorter limit makes fewer
    same_width: tuple[str, ...] = ()  # further keys that hold the hidden size
    per_layer: tuple[str, ...] = ()  # keys with one entry per layer
    required: Mapping[str, Any] = field(default_factory=dict)  # keys that must have a value, the default one

    # heads and neurons
    position_projections: tuple[str, ...] = ()  # further linear layers with rows for each head; there or not
    gated: bool = False  # the intermediate layer has two matrices, one above another: activations and their gates
    shared_layers: bool = False  # one layer runs `num_hidden_layers` times
    attention: str | None = None  # the module of an encoder layer that the next two are about
    head_counts: tuple[str, ...] = ()  # its attributes that are proportional to its number of heads
    head_bias: int | None = None  # place of its argument [batch, heads, seq, seq] that has a bias for every head

    # what happens beside those layers
    norms: tuple[str, str] | None = None  # normalisations of the sums with attention and with the feed-forward part, of
    # a layer that is computed as in ELECTRA; None if it is not
    attention_residual: str | None = None  # a module whose input attention is added to; None for the query
    output_residual: str | None = None  # the same for the feed-forward part; None for the intermediate layer
    between_layers: str | None = None  # a module below the base model that may change what a layer hands to the next
    final_norm: str | None = None  # the normalisation below the base model that follows the last layer
    plain_scores: bool = True  # before the softmax, attention is QKᵀ/√d and nothing else
    local_attention: bool = False  # some layers attend within a window, so that padding may attend to nothing
    fused_attention: bool = True  # ONNX Runtime's optimiser recognises it, and has an operator for it

    @property
    def by_head(self) -> dict[str, int]:
        """Path of each linear layer with rows for each head -> the number of its matrices, one above another."""
        return Counter((self.query, self.key, self.value, *self.position_projections))


_BERT: dict[str, Any] = {
    "layers": "encoder.layer",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "norms": ("attention.output.LayerNorm", "output.LayerNorm"),
}
_ROBERTA = Architecture(
    **_BERT,
    classifier=("classifier.dense", "classifier.out_proj"),
    inputs=("input_ids", "attention_mask"),
    reserved_positions=2,
)

ARCHITECTURES = {
    "bert": Architecture(
        **_BERT,
        classifier=("bert.pooler.dense", "classifier"),
        inputs=("input_ids", "attention_mask", "token_type_ids"),
    ),
    "distilbert": Architecture(
        layers="transformer.layer",
        query="attention.q_lin",
        key="attention.k_lin",
        value="attention.v_lin",
        attention_output="attention.out_lin",
        intermediate="ffn.lin1",
        output="ffn.lin2",
        classifier=("pre_classifier", "classifier"),
        inputs=("input_ids", "attention_mask"),
        intermediate_size="hidden_dim",
        norms=("sa_layer_norm", "output_layer_norm"),
    ),
    "electra": Architecture(
        **_BERT,
        classifier=("classifier.dense", "classifier.out_proj"),
        inputs=("input_ids", "attention_mask", "token_type_ids"),
    ),
    "roberta": _ROBERTA,
    "xlm-roberta": _ROBERTA,
    "camembert": _ROBERTA,
    "mpnet": Architecture(
        layers="encoder.layer",
        query="attention.attn.q",
        key="attention.attn.k",
        value="attention.attn.v",
        attention_output="attention.attn.o",
        intermediate="intermediate.dense",
        output="output.dense",
        classifier=("classifier.dense", "classifier.out_proj"),
        inputs=("input_ids", "attention_mask"),
        reserved_positions=2,
        attention="attention.attn",
        head_counts=("num_attention_heads", "all_head_size"),
        head_bias=2,
        plain_scores=False,
        fused_attention=False,
    ),
    "albert": Architecture(
        layers="encoder.albert_layer_groups.0.albert_layers",
        query="attention.query",
        key="attention.key",
        value="attention.value",
        attention_output="attention.dense",
        intermediate="ffn",
        output="ffn_output",
        classifier=("albert.pooler", "classifier"),
        inputs=("input_ids", "attention_mask", "token_type_ids"),
        required={"num_hidden_groups": 1, "inner_group_num": 1},
        shared_layers=True,
        plain_scores=False,  # they are, but a layer has as many as it has runs
        fused_attention=False,
    ),
    "deberta-v2": Architecture(
        layers="encoder.layer",
        query="attention.self.query_proj",
        key="attention.self.key_proj",
        value="attention.self.value_proj",
        attention_output="attention.output.dense",
        intermediate="intermediate.dense",
        output="output.dense",
        classifier=("pooler.dense", "classifier"),
        inputs=("input_ids", "attention_mask"),
        position_table=False,  # there may be one, but buckets of distances depend on the limit too
        same_width=("pooler_hidden_size",),
        position_projections=("attention.self.pos_key_proj", "attention.self.pos_query_proj"),
        attention="attention.self",
        head_counts=("num_attention_heads", "all_head_size"),
        attention_residual="attention.self",  # the query may be of distances too
        between_layers="encoder.conv",
        plain_scores=False,
        fused_attention=False,
    ),
    "modernbert": Architecture(
        layers="layers",
        query="attn.Wqkv",
        key="attn.Wqkv",
        value="attn.Wqkv",
        attention_output="attn.Wo",
        intermediate="mlp.Wi",
        output="mlp.Wo",
        classifier=("head.dense", "classifier"),
        inputs=("input_ids", "attention_mask"),
        position_table=False,
        per_layer=("layer_types",),
        gated=True,
        attention_residual="attn_norm",
        output_residual="mlp_norm",
        final_norm="final_norm",
        plain_scores=False,
        local_attention=True,
        fused_attention=False,
    ),
}
"""`model_type` of a configuration -> its adapter."""


def architecture_of(model_type: str) -> Architecture:
    """The adapter of a model type.

    Raises:
        InputError: there is none.
    """
    if model_type not in ARCHITECTURES:
        raise InputError(
            f"a model of type `{model_type}` is not supported; take one of type {', '.join(ARCHITECTURES)}, "
            "or add an adapter to fincompress/networks/architectures.py"
        )
    return ARCHITECTURES[model_type]


def check_required(model_type: str, values: Mapping[str, Any]) -> None:
    """Check the keys of a configuration, given by name, that the adapter of its type requires a value of.

    Raises:
        InputError: one has another value.
    """
    for key, wanted in architecture_of(model_type).required.items():
        if values.get(key, wanted) != wanted:
            raise InputError(
                f"config.json: {key}: {values[key]} is not supported for the type `{model_type}`: {wanted} is"
            )
