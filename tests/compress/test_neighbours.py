"""Neighbours in a network's word embedding."""

import torch
from conftest import make_tokenizer
from random_classifiers import classifier

from fincompress.compress.neighbours import nearest_words


def test_the_nearest_words_come_first_and_words_of_several_pieces_have_none():
    model, tokenizer = classifier("bert"), make_tokenizer()
    words = ["profit", "sales", "company", "shares"]
    ids = [tokenizer.convert_tokens_to_ids(word) for word in words]
    directions = torch.tensor([[1.0, 0.0], [0.9, 0.1], [-1.0, 0.2], [-0.9, -0.4]])
    with torch.no_grad():
        weight = model.get_input_embeddings().weight
        weight[ids] = torch.nn.functional.pad(directions, (0, weight.shape[1] - 2))
    found = nearest_words(model, tokenizer, [*words, "profitlessness", "12", "sales"], count=2)
    assert list(found) == sorted(words)
    assert found["profit"][0] == "sales" and found["sales"][0] == "profit" and found["company"][0] == "shares"
    assert all(len(others) == 2 and word not in others for word, others in found.items())


def test_too_few_words_have_no_neighbours():
    assert nearest_words(classifier("bert"), make_tokenizer(), ["profit"]) == {}
