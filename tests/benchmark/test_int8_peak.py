"""Operations that an int8 variant does, worked by hand."""

import pytest
from conftest import make_tokenizer
from random_classifiers import LAYERS, WIDTH, classifier

from fincompress.benchmark.int8_peak import linear_operations
from fincompress.networks.checkpoints import save

TYPES = ("bert", "distilbert", "roberta", "electra")


@pytest.mark.parametrize("model_type", TYPES)
def test_the_last_layer_works_on_one_position_once_it_has_attended(model_type, tmp_path):
    save(classifier(model_type), make_tokenizer(), tmp_path / "model", {})
    projection, feed_forward = 32 * 32, 2 * 32 * WIDTH
    layer = 4 * projection + feed_forward
    assert linear_operations(tmp_path / "model", 10) == 2 * 10 * LAYERS * layer
    last = 10 * 3 * projection + projection + feed_forward
    assert linear_operations(tmp_path / "model", 10, first_alone=True) == 2 * (10 * (LAYERS - 1) * layer + last)
