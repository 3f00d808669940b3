"""How many workers are loaded at once."""

import pytest

from fincompress.benchmark.groups import split
from fincompress.core.errors import InputError

NEEDS = {"kd": 400.0, "teacher": 600.0, "qat": 200.0, "ikd": 400.0}


def test_all_that_fit_are_one_group():
    assert split(NEEDS, "teacher", 1600) == [set(NEEDS)]


def test_every_group_fits_and_has_the_reference_and_every_variant_has_one_group():
    groups = split(NEEDS, "teacher", 1200)
    assert groups == [{"teacher", "kd", "qat"}, {"teacher", "ikd"}]
    assert all(sum(NEEDS[name] for name in group) <= 1200 for group in groups)


def test_the_reference_may_be_all_there_is():
    assert split({"teacher": 600}, "teacher", 700) == [{"teacher"}]


def test_a_variant_that_fits_nowhere_is_named_with_what_to_do():
    with pytest.raises(InputError, match=r"kd and teacher take 1000 MB .* 900 MB are free; .* benchmark\.variants"):
        split(NEEDS, "teacher", 900)
