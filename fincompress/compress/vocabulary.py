"""Vocabulary pruning: keep the pieces that given texts use, drop the rest of the tokenizer and of the embedding.

A multilingual or general vocabulary holds far more pieces than the texts of one task (Abdaoui et al. 2020,
arXiv:2010.05609), and in a small network most of the weights are their embeddings. Nothing is trained anew, so the
pruned model is exact for every text whose pieces are all kept:

- WordPiece takes the longest piece that fits, and a piece that was the longest among more is still the longest;
- BPE (Sennrich et al. 2016) applies the first merge of a list that it can. Merges that no kept piece is made by are
  removed, and the others stay in order, so the first that applied before is still the first;
- Unigram (Kudo 2018) takes the most probable split. The best among more is still the best.

All single characters stay, and so do pieces with a character that has no piece of its own. So no word becomes unknown
that was not unknown before; words with dropped pieces are spelt with shorter ones.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, cast

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from fincompress.core.errors import InputError
from fincompress.networks.architectures import architecture_of

SPECIAL_IDS = ("pad_token_id", "bos_token_id", "eos_token_id", "cls_token_id", "sep_token_id", "mask_token_id")
"""Keys of a model's configuration that hold the id of a piece."""
SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


@dataclass(frozen=True)
class Pruned:
    """A pruned tokenizer, and which rows of the old embedding its pieces have."""

    tokenizer: PreTrainedTokenizerFast
    rows: list[int]  # old id of each new id, rising


def prune_vocabulary(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], min_count: int = 1, front: int = 0
) -> Pruned:
    """A copy of `tokenizer` with the pieces that occur in `texts` at least `min_count` times, and those it cannot lack.

    Ids are renumbered in the old order, so that special tokens at the front keep theirs.

    Args:
        front: so many pieces at the front stay, whatever they are (see `fixed_front`).

    Raises:
        InputError: there is no tokenizer.json behind it, or its model is neither WordPiece, BPE nor Unigram.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        raise InputError("vocabulary pruning needs a tokenizer with a tokenizer.json; this one has none")
    content = json.loads(backend.to_str())
    kind = content["model"]["type"]
    if kind not in _MODELS:
        raise InputError(f"vocabulary pruning knows {', '.join(_MODELS)}; this tokenizer is {kind}")
    counts = _counts(Tokenizer.from_str(backend.to_str()), texts)
    used = {piece for piece, count in counts.items() if count >= min_count}
    special = {token["content"] for token in content["added_tokens"]}
    ids, kept = backend.get_vocab(with_added_tokens=True), _MODELS[kind](content["model"], used, special)
    kept |= {piece for piece, place in ids.items() if place < front}
    rows = sorted(ids[piece] for piece in kept | special)
    _renumber(content, {old: new for new, old in enumerate(rows)})
    return Pruned(_rebuilt(tokenizer, content), rows)


def fixed_front(config: PreTrainedConfig) -> int:
    """How many pieces at the front of its vocabulary a network cannot lose.

    Where positions are counted from the padding's id, these are all before the padding: without them, every word would
    have another position. In CamemBERT one of them is no special token.
    """
    return config.pad_token_id if architecture_of(config.model_type).reserved_positions else 0


def rows_of(smaller: PreTrainedTokenizerBase, whole: PreTrainedTokenizerBase) -> list[int]:
    """The ids that the pieces of a pruned tokenizer have in the whole one, in the order of their own: `Pruned.rows`."""
    ids = whole.get_vocab()
    return [ids[piece] for piece in smaller.convert_ids_to_tokens(list(range(len(smaller))))]


def prune_embedding(model: PreTrainedModel, rows: list[int]) -> None:
    """Keep these rows of the word embedding, in place; the configuration follows.

    Args:
        rows: as in `Pruned`.
    """
    old = cast(torch.nn.Embedding, model.get_input_embeddings())
    new_ids = {row: index for index, row in enumerate(rows)}
    padding = new_ids.get(old.padding_idx) if old.padding_idx is not None else None
    embedding = torch.nn.Embedding(len(rows), old.embedding_dim, padding_idx=padding)
    embedding.weight = torch.nn.Parameter(old.weight.detach()[torch.tensor(rows)].clone())
    model.set_input_embeddings(embedding)
    model.config.vocab_size = len(rows)
    for key in SPECIAL_IDS:
        if getattr(model.config, key, None) is not None:
            setattr(model.config, key, new_ids.get(getattr(model.config, key)))


def _counts(tokenizer: Tokenizer, texts: Iterable[str]) -> Counter[str]:
    """How often each piece occurs in texts, none of which is cut."""
    tokenizer.no_truncation()
    tokenizer.no_padding()
    counts: Counter[str] = Counter()
    for encoding in tokenizer.encode_batch(list(texts), add_special_tokens=False):
        counts.update(encoding.tokens)
    return counts


def _wordpiece(model: dict[str, Any], used: set[str], special: set[str]) -> set[str]:
    vocabulary, prefix = model["vocab"], model["continuing_subword_prefix"]
    regular = vocabulary.keys() - special

    def spelt(piece: str) -> list[str]:
        """The pieces of one character that would spell a piece."""
        inner = piece.startswith(prefix) and piece != prefix
        body = piece.removeprefix(prefix) if inner else piece
        return [prefix + c if inner or place else c for place, c in enumerate(body)]

    kept = (used & regular) | _without_substitute(regular, spelt) | {model["unk_token"]}
    return kept & vocabulary.keys()


def _bpe(model: dict[str, Any], used: set[str], special: set[str]) -> set[str]:
    if model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise InputError("vocabulary pruning knows no BPE that marks where words continue or end")
    vocabulary = model["vocab"]
    merges = [tuple(merge) if isinstance(merge, list) else tuple(merge.split(" ")) for merge in model["merges"]]
    ranks = {merge: rank for rank, merge in enumerate(merges)}
    regular = vocabulary.keys() - special
    needed: set[tuple[str, ...]] = set()
    kept = {piece for piece in regular if len(piece) == 1} | ({model["unk_token"]} & vocabulary.keys())
    for piece in used & regular:
        steps = _derivation(piece, ranks)
        needed.update(steps)
        kept.update({piece}, *steps, (first + second for first, second in steps))
    model["merges"] = [list(merge) for merge in merges if merge in needed]
    return (kept | _bytes(model, regular)) & vocabulary.keys()


def _derivation(piece: str, ranks: dict[tuple[str, ...], int]) -> list[tuple[str, str]]:
    """The merges by which BPE makes a piece of its characters, in order.

    Inside a longer word they are the same: no merge across the piece's ends was ever the first, or the piece would have
    become part of a longer one.
    """
    symbols = list(piece)
    steps: list[tuple[str, str]] = []
    while True:
        pairs = [(ranks[pair], place) for place, pair in enumerate(pairwise(symbols)) if pair in ranks]
        if not pairs:
            return steps
        _, place = min(pairs)
        steps.append((symbols[place], symbols[place + 1]))
        symbols[place : place + 2] = [symbols[place] + symbols[place + 1]]


def _unigram(model: dict[str, Any], used: set[str], special: set[str]) -> set[str]:
    entries: list[list] = model["vocab"]
    regular = {piece for piece, _ in entries} - special
    unknown = {entries[model["unk_id"]][0]}
    return (used & regular) | _without_substitute(regular, list) | unknown | _bytes(model, regular)


def _bytes(model: dict[str, Any], regular: set[str]) -> set[str]:
    """The pieces that stand for the bytes of a character without a piece, where the model falls back on them."""
    if not model.get("byte_fallback"):
        return set()
    return {piece for piece in regular if piece.startswith("<0x") and piece.endswith(">")}


def _without_substitute(regular: set[str], spelt: Callable[[str], list[str]]) -> set[str]:
    """Pieces that nothing shorter can stand for: of one character, or with a character that has no piece of its own."""
    return {piece for piece in regular if len(spelt(piece)) <= 1 or not regular.issuperset(spelt(piece))}


_MODELS: dict[str, Callable[[dict[str, Any], set[str], set[str]], set[str]]] = {
    "WordPiece": _wordpiece,
    "BPE": _bpe,
    "Unigram": _unigram,
}
"""Kind of tokenizer -> what is kept of its pieces, special tokens apart; merges that no piece needs are removed."""


def _renumber(content: dict[str, Any], new_ids: dict[int, int]) -> None:
    """Drop the pieces without a new id from the content of a tokenizer.json, and give all ids theirs, in place."""
    model = content["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {piece: new_ids[old] for piece, old in model["vocab"].items() if old in new_ids}
    else:  # a list, in which a piece's place is its id
        model["vocab"] = [entry for old, entry in enumerate(model["vocab"]) if old in new_ids]
        model["unk_id"] = new_ids[model["unk_id"]]
    for token in content["added_tokens"]:
        token["id"] = new_ids[token["id"]]
    if content.get("padding"):
        content["padding"]["pad_id"] = new_ids[content["padding"]["pad_id"]]
    if content.get("post_processor"):
        _renumber_processor(content["post_processor"], new_ids)


def _renumber_processor(processor: dict[str, Any], new_ids: dict[int, int]) -> None:
    """The same for what adds special tokens around a text: BERT's, RoBERTa's, a template, or a sequence of them."""
    for part in processor.get("processors", []):
        _renumber_processor(part, new_ids)
    for end in ("sep", "cls"):
        if end in processor:
            processor[end] = [processor[end][0], new_ids[processor[end][1]]]
    for token in processor.get("special_tokens", {}).values():
        token["ids"] = [new_ids[old] for old in token["ids"]]


def _rebuilt(tokenizer: PreTrainedTokenizerBase, content: dict[str, Any]) -> PreTrainedTokenizerFast:
    """A tokenizer with this content and the settings of another."""
    special = {name: getattr(tokenizer, name) for name in SPECIAL_TOKENS if getattr(tokenizer, name, None) is not None}
    return PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(content)),
        model_max_length=tokenizer.model_max_length,
        model_input_names=list(tokenizer.model_input_names),
        padding_side=tokenizer.padding_side,
        **special,
    )
