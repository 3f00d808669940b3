"""The sentences that documents show are answered right and with confidence by the models of the committed run."""

import re
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import ROOT

from fincompress.benchmark.records import EXAMPLES_SPLIT, example_answers
from fincompress.core.examples import EXAMPLES
from fincompress.core.files import read_json
from fincompress.core.params import checked_params
from fincompress.data.sources import read_embedded

PLACES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "notebooks/fincompress_colab.ipynb",
    ROOT / "fincompress/serving/templates/export.md",
]
SHOWN = re.compile(r"""(?:predict(?: --\w+ [^"\s]+)*|classify\(\[?|pipeline\([^)]*\)\() ?\\?"([^"\\]+)""")
"""A sentence that a document hands to a model."""
CONFIDENCE = 0.8


def answers() -> dict[str, dict[str, dict]]:
    return read_json(ROOT / "metrics/about/examples.json")


def test_documents_hand_no_other_sentences_to_models():
    shown = {text: place for place in PLACES for text in SHOWN.findall(place.read_text(encoding="utf-8"))}
    assert len(shown) >= 2
    assert {text: place for text, place in shown.items() if text not in EXAMPLES} == {}


def test_no_example_is_in_the_corpus_that_models_learn_from():
    assert not set(EXAMPLES) & set(read_embedded()["text"])


@pytest.mark.parametrize("text", EXAMPLES)
def test_every_shipped_model_gets_an_example_right_with_confidence(text):
    for variant in checked_params(ROOT / "params.yaml").ship.variants:
        answer = answers()[text][variant]
        assert answer["label"] == EXAMPLES[text] and answer["confidence"] > CONFIDENCE, variant


def test_the_answers_that_documents_print_are_those_of_the_committed_run():
    printed = [
        (place.name, *line.groups())
        for place in PLACES
        for line in re.finditer(r"^(\w+)\t(\d\.\d{3})\t(.+)$", place.read_text(encoding="utf-8"), re.MULTILINE)
        if line[3] in EXAMPLES
    ]
    assert len(printed) >= 2
    recorded = [
        (place, answer["label"], f"{answer['confidence']:.3f}", text)
        for place, _, _, text in printed
        for answer in [answers()[text]["ikd_ort_int8"]]
    ]
    assert printed == recorded


def test_an_answer_is_recorded_for_each_variant_unless_its_labels_are_others():
    measured = SimpleNamespace(
        labels={"teacher": ["negative", "neutral", "positive"]},
        logits={"teacher": {EXAMPLES_SPLIT: np.tile(np.log([0.1, 0.2, 0.7]), (len(EXAMPLES), 1))}},
    )
    found = example_answers(measured)
    assert list(found) == list(EXAMPLES)
    assert all(answer == {"teacher": {"label": "positive", "confidence": 0.7}} for answer in found.values())
    measured.labels = {"teacher": ["World", "Sports", "Business"]}
    assert example_answers(measured) == {}
