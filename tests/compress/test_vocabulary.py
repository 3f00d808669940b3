"""Vocabulary pruning: exact for the texts that it keeps, harmless for all others, in each kind of tokenizer."""

import numpy as np
import pytest
import torch
from conftest import LABELS
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models
from trained_tokenizers import TEXTS, byte_level_bpe, unigram, wordpiece
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    PreTrainedTokenizerFast,
    RobertaConfig,
    RobertaForSequenceClassification,
)

from fincompress.compress.vocabulary import prune_embedding, prune_vocabulary, rows_of
from fincompress.core.errors import InputError
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.base import predict_logits
from fincompress.runtimes.registry import open_classifier
from fincompress.serving.export import export

KEPT, OTHER = TEXTS[::2], TEXTS[1::2]
SHAPE = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
NAMES = {"id2label": dict(enumerate(LABELS)), "label2id": {label: index for index, label in enumerate(LABELS)}}


def bert(tokenizer):
    torch.manual_seed(0)
    return BertForSequenceClassification(BertConfig(vocab_size=len(tokenizer), **SHAPE, **NAMES)).eval()


def roberta(tokenizer):
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer), max_position_embeddings=66, type_vocab_size=1, pad_token_id=1, **SHAPE, **NAMES
    )
    return RobertaForSequenceClassification(config).eval()


KINDS = {"WordPiece": (wordpiece, bert), "BPE": (byte_level_bpe, roberta), "Unigram": (unigram, roberta)}


@pytest.fixture(scope="module", params=KINDS)
def whole(request):
    """(tokenizer, model) of each kind."""
    make_tokenizer, make_model = KINDS[request.param]
    tokenizer = make_tokenizer()
    return tokenizer, make_model(tokenizer)


def test_a_pruned_tokenizer_tells_which_rows_it_has_of_the_whole_one(whole):
    tokenizer, _ = whole
    pruned = prune_vocabulary(tokenizer, KEPT)
    assert rows_of(pruned.tokenizer, tokenizer) == pruned.rows


@pytest.fixture(scope="module")
def smaller(whole):
    """(tokenizer, model) after pruning to the pieces of `KEPT`."""
    tokenizer, model = whole
    pruned = prune_vocabulary(tokenizer, KEPT)
    smaller = type(model)(model.config.__class__(**model.config.to_dict())).eval()
    smaller.load_state_dict(model.state_dict())
    prune_embedding(smaller, pruned.rows)
    return pruned.tokenizer, smaller


def logits(tokenizer, model, texts) -> np.ndarray:
    with torch.inference_mode():
        return model(**tokenizer(texts, padding=True, truncation=True, return_tensors="pt")).logits.numpy()


def test_no_kept_text_changes_its_pieces_or_its_logits(whole, smaller):
    assert len(smaller[0]) < 0.9 * len(whole[0]) and smaller[1].config.vocab_size == len(smaller[0])
    for text in KEPT:
        assert smaller[0].tokenize(text) == whole[0].tokenize(text)
    np.testing.assert_array_equal(logits(*smaller, KEPT), logits(*whole, KEPT))


@settings(max_examples=200)
@given(data=st.data())
def test_no_text_has_an_unknown_piece_that_it_did_not_have_before(whole, smaller, data):
    words = [word for text in OTHER for word in text.split()]
    letters = sorted({letter for text in TEXTS for letter in text})
    made = st.text(st.sampled_from(letters), min_size=1, max_size=12)
    text = " ".join(data.draw(st.lists(st.one_of(st.sampled_from(words), made), min_size=1, max_size=8)))
    before, after = (one[0].tokenize(text).count(one[0].unk_token) for one in (whole, smaller))
    assert after == before


def test_special_tokens_keep_their_meaning_and_the_padding_its_row(whole, smaller):
    for name in ("unk_token", "pad_token", "cls_token", "sep_token"):
        assert getattr(smaller[0], name) == getattr(whole[0], name)
    assert smaller[1].config.pad_token_id == smaller[0].pad_token_id == whole[0].pad_token_id
    assert smaller[1].get_input_embeddings().padding_idx == smaller[0].pad_token_id
    first, last = smaller[0]("a")["input_ids"][0], smaller[0]("a")["input_ids"][-1]
    assert (first, last) == (smaller[0].cls_token_id, smaller[0].sep_token_id)


def test_a_rare_piece_goes_with_a_minimum_count_and_its_words_are_spelt_with_shorter_ones(whole):
    sizes = [len(prune_vocabulary(whole[0], KEPT, min_count=count).tokenizer) for count in (1, 2, 5)]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3
    rare = prune_vocabulary(whole[0], KEPT, min_count=5).tokenizer
    changed = [text for text in KEPT if rare.tokenize(text) != whole[0].tokenize(text)]
    assert changed, "nothing was dropped"
    for text in changed:
        assert len(rare.tokenize(text)) > len(whole[0].tokenize(text))


def test_a_pruned_network_is_saved_loaded_and_exported_like_any_other(whole, smaller, tmp_path):
    save(smaller[1], smaller[0], tmp_path / "pruned", {})
    expected = logits(*whole, KEPT[:8])
    loaded = load_tokenizer(str(tmp_path / "pruned"))
    assert loaded.tokenize(OTHER[0]) == smaller[0].tokenize(OTHER[0])
    np.testing.assert_array_equal(logits(loaded, load_model(str(tmp_path / "pruned")), KEPT[:8]), expected)
    for target, runtime in (("onnx", "onnxruntime"), ("openvino", "openvino")):
        export(tmp_path / "pruned", target, tmp_path / target)
        found = predict_logits(open_classifier(tmp_path / target, runtime, 1), KEPT[:8])
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_the_real_vocabulary_shrinks_to_what_the_corpus_uses():
    from fincompress.networks.locate import locate

    tokenizer = load_tokenizer(locate("minilm", "main", "teacher", "checkpoint").folder, 128)
    texts = read_embedded()["text"].tolist()
    pruned = prune_vocabulary(tokenizer, texts[:3000]).tokenizer
    assert len(pruned) < 12_000 < len(tokenizer)
    for text in texts[:200]:
        assert pruned.tokenize(text) == tokenizer.tokenize(text)
    for text in texts[5000:5200]:
        assert pruned.tokenize(text).count("[UNK]") == tokenizer.tokenize(text).count("[UNK]")


def test_a_tokenizer_of_another_kind_is_refused():
    word_level = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(InputError, match="knows WordPiece, BPE, Unigram; this tokenizer is WordLevel"):
        prune_vocabulary(PreTrainedTokenizerFast(tokenizer_object=word_level, unk_token="[UNK]"), ["a"])
    marked = Tokenizer(models.BPE(vocab={"a</w>": 0}, merges=[], end_of_word_suffix="</w>"))
    with pytest.raises(InputError, match="marks where words continue or end"):
        prune_vocabulary(PreTrainedTokenizerFast(tokenizer_object=marked), ["a"])
