"""What the library must know about an encoder that transformers does not say: one adapter per model type.

Everything else relies on these: loading, distillation, pruning, masks, export and serving. To support another
architecture, add an entry to `ARCHITECTURES`. Nothing heavy is imported here, because serving reads it too.
"""

from dataclasses import dataclass
from typing import Any

from fincompress.core.errors import InputError


@dataclass(frozen=True)
class Architecture:
    """Where an encoder keeps its linear layers, and which inputs it takes."""

    layers: str  # the list of encoder layers, below the base model
    query: str  # this and the next seven are below a layer
    key: str
    value: str
    attention_output: str
    intermediate: str
    output: str
    attention_norm: str  # the normalisations of a layer, after attention and after the feed-forward part
    output_norm: str
    classifier: tuple[str, ...]  # linear layers between the encoder and the logits, below the classifier
    inputs: tuple[str, ...]  # what its forward pass takes, all [batch, seq]
    intermediate_size: str = "intermediate_size"  # the key in its configuration
    reserved_positions: int = 0  # how many of max_position_embeddings no word piece can have


_BERT: dict[str, Any] = {
    "layers": "encoder.layer",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "attention_output": "attention.output.dense",
    "intermediate": "intermediate.dense",
    "output": "output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "output_norm": "output.LayerNorm",
}

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
        attention_norm="sa_layer_norm",
        output_norm="output_layer_norm",
        classifier=("pre_classifier", "classifier"),
        inputs=("input_ids", "attention_mask"),
        intermediate_size="hidden_dim",
    ),
    "electra": Architecture(
        **_BERT,
        classifier=("classifier.dense", "classifier.out_proj"),
        inputs=("input_ids", "attention_mask", "token_type_ids"),
    ),
    "roberta": Architecture(
        **_BERT,
        classifier=("classifier.dense", "classifier.out_proj"),
        inputs=("input_ids", "attention_mask"),
        reserved_positions=2,
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
