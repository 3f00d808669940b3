"""A tiny random checkpoint of every architecture in its real shape: tokenizer, special tokens, positions."""

from functools import cache
from pathlib import Path

import torch
from conftest import LABELS, make_tokenizer
from trained_tokenizers import byte_level_bpe, unigram, wordpiece
from transformers import AutoConfig, AutoModelForSequenceClassification, PreTrainedTokenizerFast

HEADS, WIDTH = 4, 64
LAYERS = 3
SHAPE = {"hidden_size": 32, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS, "intermediate_size": WIDTH}
FROM_PADDING = {"type_vocab_size": 1, "pad_token_id": 1, "bos_token_id": 0, "eos_token_id": 2}
"""Of the family of RoBERTa, which counts positions from the padding's id on."""
SETTINGS = {
    "bert": {"max_position_embeddings": 48, **SHAPE},
    "distilbert": {"max_position_embeddings": 48, "dim": 32, "n_layers": LAYERS, "n_heads": HEADS, "hidden_dim": WIDTH},
    "electra": {"max_position_embeddings": 48, "embedding_size": 16, **SHAPE},
    "roberta": {"max_position_embeddings": 514, **FROM_PADDING, **SHAPE},
    "xlm-roberta": {"max_position_embeddings": 514, **FROM_PADDING, **SHAPE},
    "camembert": {
        "max_position_embeddings": 514,
        **{**FROM_PADDING, "bos_token_id": 5, "eos_token_id": 6},
        **SHAPE,
    },
    "mpnet": {"max_position_embeddings": 514, "pad_token_id": 1, **SHAPE},
    "albert": {"max_position_embeddings": 48, "embedding_size": 16, "bos_token_id": 2, "eos_token_id": 3, **SHAPE},
    "deberta-v2": {
        "max_position_embeddings": 512,
        "relative_attention": True,
        "position_buckets": 256,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "pos_att_type": "p2c|c2p",
        "position_biased_input": False,
        "type_vocab_size": 0,
        **SHAPE,
    },
    "modernbert": {"max_position_embeddings": 96, "local_attention": 16, **SHAPE},
    "data2vec-text": {"max_position_embeddings": 50, **FROM_PADDING, **SHAPE},  # the example of docs/architectures.md
}
"""`model_type` -> what a checkpoint's configuration says, those of DeBERTa and ModernBERT as v3 and base have it."""
TOKENIZERS = {
    "roberta": byte_level_bpe,
    "data2vec-text": byte_level_bpe,
    "xlm-roberta": unigram,
    "camembert": lambda: unigram("CAMEMBERT"),
    "mpnet": lambda: wordpiece("MPNET"),
    "albert": lambda: unigram("ALBERT"),
    "deberta-v2": lambda: unigram("DEBERTA"),
    "modernbert": lambda: byte_level_bpe("MODERNBERT"),
}
"""Those of the others are BERT's."""
LIMITS = {"roberta": 512, "xlm-roberta": 512, "camembert": 512, "mpnet": 512, "deberta-v2": 512, "modernbert": 96}
"""How many word pieces they take; the others, 48."""


@cache
def _tokenizer(model_type: str) -> PreTrainedTokenizerFast:
    """The same one for all checkpoints of a type: training breaks ties at random."""
    return TOKENIZERS.get(model_type, make_tokenizer)()


def save_checkpoint(model_type: str, folder: Path, **settings) -> PreTrainedTokenizerFast:
    """Save a random classifier over negative, neutral and positive; returns its tokenizer.

    Args:
        settings: further keys of its configuration, or other values.
    """
    torch.manual_seed(0)
    tokenizer = _tokenizer(model_type)
    special = (
        {}
        if model_type != "modernbert"
        else {
            f"{name}_token_id": tokenizer.convert_tokens_to_ids(f"[{piece}]")
            for name, piece in (("pad", "PAD"), ("cls", "CLS"), ("sep", "SEP"), ("bos", "CLS"), ("eos", "SEP"))
        }
    )
    config = AutoConfig.for_model(
        model_type,
        **{
            **SETTINGS[model_type],
            "vocab_size": len(tokenizer),
            "id2label": dict(enumerate(LABELS)),
            "label2id": {name: index for index, name in enumerate(LABELS)},
            **special,
            **settings,
        },
    )
    AutoModelForSequenceClassification.from_config(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return tokenizer
