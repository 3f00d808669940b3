"""Words that a network takes for alike: those near each other in its own word embedding."""

from collections.abc import Iterable
from typing import cast

import torch
from torch.nn import functional
from transformers import PreTrainedModel, PreTrainedTokenizerBase

CHUNK = 1024  # rows of the similarity matrix at a time


@torch.no_grad()
def nearest_words(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, words: Iterable[str], count: int = 8
) -> dict[str, list[str]]:
    """The `count` of `words` nearest to each, by the cosine of their embeddings less the mean of all, nearest first.

    Only words of letters that the tokenizer has as one piece have an embedding of their own; others are left out.

    Args:
        words: lower case.
    """
    piece = {word: tokenizer(f" {word}", add_special_tokens=False)["input_ids"] for word in sorted(set(words))}
    known = [
        word for word, ids in piece.items() if word.isalpha() and len(ids) == 1 and ids[0] != tokenizer.unk_token_id
    ]
    if len(known) < 2:
        return {}
    embedding = cast(torch.nn.Embedding, model.get_input_embeddings())
    table = embedding.weight[torch.tensor([piece[word][0] for word in known])].float()
    unit = functional.normalize(table - table.mean(dim=0), dim=1)
    nearest = {}
    for start in range(0, len(known), CHUNK):
        alike = unit[start : start + CHUNK] @ unit.T
        alike[torch.arange(len(alike)), torch.arange(start, start + len(alike))] = -torch.inf  # itself
        best = alike.topk(min(count, len(known) - 1), dim=1).indices
        for word, row in zip(known[start : start + CHUNK], best.tolist(), strict=True):
            nearest[word] = [known[index] for index in row]
    return nearest
