"""Tiny random classifiers of every architecture, for tests of what pruning does to a network."""

import copy

import torch
from conftest import LABELS
from transformers import (
    AlbertConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    CamembertConfig,
    DebertaV2Config,
    DistilBertConfig,
    ElectraConfig,
    ModernBertConfig,
    MPNetConfig,
    RobertaConfig,
    XLMRobertaConfig,
)

from fincompress.networks.architectures import ARCHITECTURES

LAYERS, HEADS, SIZE, WIDTH = 3, 4, 8, 64
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": WIDTH,
    "vocab_size": 600,
    "num_labels": 3,
}
CONFIGS = {
    "bert": BertConfig(**SHAPE),
    "electra": ElectraConfig(embedding_size=16, **SHAPE),
    "roberta": RobertaConfig(pad_token_id=0, **SHAPE),
    "distilbert": DistilBertConfig(
        dim=32, n_layers=LAYERS, n_heads=HEADS, hidden_dim=WIDTH, vocab_size=600, num_labels=3
    ),
    "xlm-roberta": XLMRobertaConfig(pad_token_id=0, **SHAPE),
    "camembert": CamembertConfig(pad_token_id=0, **SHAPE),
    "mpnet": MPNetConfig(**SHAPE),
    "deberta-v2": DebertaV2Config(
        relative_attention=True,
        position_buckets=8,
        position_biased_input=False,
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        norm_rel_ebd="layer_norm",
        max_position_embeddings=64,
        **SHAPE,
    ),
    "modernbert": ModernBertConfig(local_attention=8, max_position_embeddings=64, pad_token_id=0, **SHAPE),
}
VARIANTS = {
    "deberta-v2 without shared projections": DebertaV2Config(
        relative_attention=True, position_buckets=-1, pos_att_type=["p2c", "c2p"], max_position_embeddings=64, **SHAPE
    ),
    "deberta-v2 with a convolution": DebertaV2Config(
        **{**CONFIGS["deberta-v2"].to_dict(), "conv_kernel_size": 3, "conv_act": "gelu", "type_vocab_size": 2}
    ),
    "deberta-v2 without positions": DebertaV2Config(max_position_embeddings=64, **SHAPE),
    "modernbert with biases": ModernBertConfig(
        **{
            **CONFIGS["modernbert"].to_dict(),
            "attention_bias": True,
            "mlp_bias": True,
            "norm_bias": True,
            "classifier_bias": True,
            "classifier_pooling": "mean",
        }
    ),
}
"""Other forms of some architectures."""
ALBERT = AlbertConfig(embedding_size=16, **SHAPE)
"""Whose layers are one."""
TEXTS = [
    "Profit rose.",
    "The board of the company met on Tuesday in Helsinki to talk about costs.",
    "Sales fell by 3 %.",
]
REMOVED = [(0, 1), (0, 3), (2, 0), (2, 1), (2, 3)]


def classifier(model_type: str = "bert"):
    """A random classifier whose attention and logits are not flat, as fresh weights of scale 0.02 would make them.

    Args:
        model_type: a key of `CONFIGS` or `VARIANTS`, or `albert`.
    """
    torch.manual_seed(0)
    config = copy.deepcopy({**CONFIGS, **VARIANTS, "albert": ALBERT}[model_type])
    config.id2label, config.label2id = dict(enumerate(LABELS)), {name: index for index, name in enumerate(LABELS)}
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=0.4)
                if module.bias is not None:
                    module.bias.normal_(std=0.2)
        for name, parameter in model.named_parameters():
            if "relative_attention_bias" in name or "rel_embeddings" in name:
                parameter.normal_()
    return model


def logits(model, tokenizer) -> torch.Tensor:
    """Of `TEXTS`, [texts, labels]."""
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    with torch.inference_mode():
        return model(**{name: batch[name] for name in ARCHITECTURES[model.config.model_type].inputs}).logits
