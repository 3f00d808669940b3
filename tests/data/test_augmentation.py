"""Variants of texts: what each rule changes, that they are repeatable, and that none is too like a held-out text."""

import random

import pytest

from fincompress.data import augmentation
from fincompress.data.augmentation import Material, augment, clauses, unlike
from fincompress.data.prepared import normalise
from fincompress.data.sources import read_embedded

TEXTS = read_embedded()["text"].tolist()[:200]
TEXT = "Operating Profit rose to EUR 13.1 mn in 2024, while costs fell by 1,200."
MATERIAL = Material(["The board met."], {"costs": ["expenses"], "profit": ["income"], "operating": ["running"]})


def rng() -> random.Random:
    return random.Random(1)


def test_variants_are_new_unlike_each_other_and_as_many_as_asked_for():
    made = augment(TEXTS, 5, seed=1)
    keys = [normalise(text) for text in made]
    assert len(made) == len(set(keys)) == 5 * len(TEXTS)
    assert not set(keys) & {normalise(text) for text in TEXTS}


def test_variants_depend_on_the_arguments_alone():
    assert augment(TEXTS[:40], 3, seed=1) == augment(TEXTS[:40], 3, seed=1) != augment(TEXTS[:40], 3, seed=2)


def test_a_text_without_enough_variants_has_fewer():
    assert augment(["Yes"], 50, seed=1) == ["Yes Yes"], "its only clause, twice"


def test_words_are_dropped_but_never_all():
    words = TEXT.split()
    for seed in range(20):
        kept = augmentation.drop_words(TEXT, random.Random(seed), MATERIAL).split()
        assert 0 < len(kept) < len(words) and all(word in words for word in kept)
    assert augmentation.drop_words("Yes", rng(), MATERIAL) == "Yes"


def test_words_are_replaced_by_neighbours_capitalised_as_they_were():
    seen = {augmentation.replace_words(TEXT, random.Random(seed), MATERIAL) for seed in range(40)}
    assert any("Running Profit" in text for text in seen) and any("Operating Income" in text for text in seen)
    assert any("while expenses fell" in text for text in seen)
    assert augmentation.replace_words(TEXT, rng(), Material(["a"])) == TEXT


def test_figures_change_and_keep_their_form():
    import re

    changed = augmentation.change_figures(TEXT, rng(), MATERIAL)
    assert changed != TEXT
    pattern = r"Operating Profit rose to EUR \d\d\.\d mn in 202[1-7], while costs fell by \d,\d\d\d\."
    assert re.fullmatch(pattern, changed)


def test_a_window_is_a_run_of_at_least_half_of_the_words():
    for seed in range(20):
        window = augmentation.cut_window(TEXT, random.Random(seed), MATERIAL)
        assert window in TEXT and 2 * len(window.split()) >= len(TEXT.split()) - 1


def test_clauses_are_joined_with_those_of_other_texts():
    assert clauses(TEXT) == ["Operating Profit rose to EUR 13.1 mn in 2024,", "while costs fell by 1,200."]
    joined = augmentation.join_clauses(TEXT, rng(), MATERIAL)
    assert "The board met." in joined and any(part in joined for part in clauses(TEXT))


def test_directions_are_turned_round():
    flipped = {
        augmentation.flip_directions("Sales ROSE and Profit fell.", random.Random(s), MATERIAL) for s in range(30)
    }
    assert "Sales FELL and Loss rose." in flipped and "Sales ROSE and Profit fell." not in flipped
    assert augmentation.flip_directions("The board met.", rng(), MATERIAL) == "The board met."


@pytest.mark.parametrize(("word", "other"), augmentation.OPPOSITES.items())
def test_an_opposite_is_no_word_that_has_another(word, other):
    assert other not in augmentation.OPPOSITES and word != other


def test_near_duplicates_of_held_out_texts_are_left_out():
    held_out = ["Operating profit rose to EUR 13.1 mn from EUR 8.7 mn.", "No news."]
    near = ["Operating profit rose to EUR 15.2 mn from EUR 8.7 mn.", "no news", "Operating profit rose to EUR 13.1 mn"]
    far = ["Operating profit fell short of what analysts expected.", "The board met in Oslo.", "News"]
    assert unlike([*near, *far], held_out) == far
