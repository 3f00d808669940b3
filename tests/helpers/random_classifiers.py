"""Tiny random classifiers of every architecture, for tests of what pruning does to a network."""

import copy

import torch
from conftest import LABELS
from transformers import AutoModelForSequenceClassification, BertConfig, DistilBertConfig, ElectraConfig, RobertaConfig

LAYERS, HEADS, SIZE, WIDTH = 3, 4, 8, 64
SAME = {"vocab_size": 600, "num_labels": 3}
CONFIGS = {
    "bert": BertConfig(
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=WIDTH,
        **SAME,
    ),
    "electra": ElectraConfig(
        embedding_size=16,
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=WIDTH,
        **SAME,
    ),
    "roberta": RobertaConfig(
        hidden_size=32,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=WIDTH,
        pad_token_id=0,
        **SAME,
    ),
    "distilbert": DistilBertConfig(dim=32, n_layers=LAYERS, n_heads=HEADS, hidden_dim=WIDTH, **SAME),
}
TEXTS = [
    "Profit rose.",
    "The board of the company met on Tuesday in Helsinki to talk about costs.",
    "Sales fell by 3 %.",
]
REMOVED = [(0, 1), (0, 3), (2, 0), (2, 1), (2, 3)]


def classifier(model_type: str = "bert"):
    """A random classifier whose attention and logits are not flat, as fresh weights of scale 0.02 would make them."""
    torch.manual_seed(0)
    config = copy.deepcopy(CONFIGS[model_type])
    config.id2label, config.label2id = dict(enumerate(LABELS)), {name: index for index, name in enumerate(LABELS)}
    model = AutoModelForSequenceClassification.from_config(config).eval()
    with torch.no_grad():
        for module in model.modules():
            if isinstance(module, torch.nn.Linear):
                module.weight.normal_(std=0.4)
                module.bias.normal_(std=0.2)
    return model


def logits(model, tokenizer) -> torch.Tensor:
    """Of `TEXTS`, [texts, labels]."""
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    names = ["input_ids", "attention_mask"] + ["token_type_ids"] * (model.config.model_type in ("bert", "electra"))
    with torch.inference_mode():
        return model(**{name: batch[name] for name in names}).logits
