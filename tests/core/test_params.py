"""params.yaml is checked as a whole, and every mistake is named."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from fincompress.core.errors import InputError
from fincompress.core.params import Key, checked_params, keys_of, load_params
from fincompress.core.sections import KdParams, TeacherParams


@dataclass(frozen=True)
class Distilled:
    """What a stage that distils could need."""

    seed: int
    kd: KdParams


@pytest.fixture
def write(tmp_path):
    """Write the project's params.yaml with some keys changed; returns its path."""

    def _write(changes: dict) -> Path:
        yaml = YAML()
        content = yaml.load(ROOT / "params.yaml")
        for key, value in changes.items():
            *sections, name = key.split(".")
            target = content
            for section in sections:
                target = target[section]
            target[name] = value
        yaml.dump(content, tmp_path / "params.yaml")
        return tmp_path / "params.yaml"

    return _write


def test_the_committed_file_is_valid_and_complete():
    content = YAML(typ="safe").load(ROOT / "params.yaml")
    assert set(content) | {"pipeline"} == set(checked_params(ROOT / "params.yaml").model_dump())


def test_only_the_sections_asked_for_can_be_read():
    params = load_params(Distilled, path=ROOT / "params.yaml")
    with pytest.raises(AttributeError):
        _ = params.teacher


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("kd.temperature", 0, "kd.temperature: Input should be greater than 0 (got 0)"),
        ("kd.alpha", 1.5, "kd.alpha: Input should be less than or equal to 1 (got 1.5)"),
        ("teacher.label_map", {"LABEL_0": "up"}, "teacher.label_map: LABEL_0: `up` is none of the labels negative,"),
        ("teacher.label_map", {"a": "neutral", "b": "neutral"}, "label_map: neutral stands for several outputs"),
        ("kd.learning_rate", "1e-4", "kd.learning_rate: Input should be a valid number (got '1e-4')"),
        ("teacher.epochs", 2.5, "teacher.epochs: Input should be a valid integer"),
        ("teacher.epochs", True, "teacher.epochs: Input should be a valid integer"),
        ("teacher.epoch", 3, "teacher.epoch: unknown key; did you mean `epochs`?"),
        ("teachers", {}, "teachers: unknown key; did you mean `teacher`?"),
        ("prepare.files.labels", ["one"], "prepare.files.labels: List should have at least 2 items"),
        ("prepare.files.labels", ["Up", "up"], "labels must differ"),
        ("prepare.split.val", 0.9, "val + test must be below 1"),
        ("kd.transfer", "data/own.txt", "kd.transfer: data/own.txt is in data/, which DVC empties"),
        (
            "kd.transfer",
            ["a.txt", "b.txt"],
            "kd.transfer: expected the path of a file or a folder; put several files into",
        ),
        ("teacher.checkpoint", "metrics/variants", "teacher.checkpoint: metrics/variants is in metrics/"),
        ("student.init", "plots/figures", "student.init: plots/figures is in plots/"),
        ("evaluate.extra", "plots/own.csv", "evaluate.extra: plots/own.csv is in plots/"),
        ("prepare.files.path", "./models/../data/own.csv", "is in data/, which DVC empties"),
        ("prepare.source", "hub", "prepare.source: Input should be 'embedded', 'files' or 'financial' (got 'hub')"),
        ("student.attention_heads", 7, "attention_heads (7) must divide hidden_size (384)"),
        ("benchmark.rounds", 501, "runs (500) must be at least rounds (501)"),
        ("benchmark.padded_length", 256, "params.yaml: benchmark.padded_length: 256 is more than the 128 word pieces"),
        ("teacher.max_length", 64, "benchmark.padded_length: 128 is more than the 64 word pieces"),
        ("benchmark.lengths", [16, 512], "benchmark.lengths: 512 is more than the 128 word pieces"),
        ("evaluate.opposite_labels", ["bad", "positive"], "evaluate.opposite_labels: `bad` is none of the labels"),
        ("ship.variants", ["kd_int8"], "ship.variants: the pipeline keeps no `kd_int8`"),
        ("kd.weight_decay", float("nan"), "kd.weight_decay"),
        ("prune30.heads_fraction", 1.0, "prune30.heads_fraction: Input should be less than 1 (got 1.0)"),
        ("prune50.heads_fraction", 0, "prune50.heads_fraction: Input should be greater than 0 (got 0)"),
        (
            "prune50.importance",
            "l0",
            "prune50.importance: Input should be 'entropy', 'attention', 'magnitude'",
        ),
        (
            "qat.source",
            "nothing",
            "qat.source: expected one of teacher, kd, ikd, prune30, prune50, tiny (got 'nothing')",
        ),
        ("tiny.source", "tiny", "tiny.source: expected one of teacher, kd, ikd, prune30, prune50 (got 'tiny')"),
        ("ptq.embedding_group", 0, "ptq.embedding_group: Input should be greater than or equal to 1 (got 0)"),
        ("tiny.embedding_size", 128, "freeze_word_embeddings: an embedding of another size has to be trained"),
        ("augment.variants", -1, "augment.variants: Input should be greater than or equal to 0 (got -1)"),
        ("qat.calibration_samples", 0, "qat.calibration_samples: Input should be greater than or equal to 1 (got 0)"),
        ("ptq.keep_classifier_float", "no", "ptq.keep_classifier_float: Input should be a valid boolean (got 'no')"),
        ("ptq.calibration_samples", 1.5, "ptq.calibration_samples: Input should be a valid integer"),
        ("seed", -1, "seed: Input should be greater than or equal to 0"),
    ],
)
def test_a_wrong_value_is_named_in_one_line(write, key, value, message):
    with pytest.raises(InputError) as error:
        checked_params(write({key: value}))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_opposite_labels_are_two_of_the_labels_in_use_or_none(write):
    own = {"prepare.source": "files", "prepare.files.labels": ["bad", "mixed", "good"]}
    with pytest.raises(
        InputError, match="`negative` is none of the labels bad, mixed, good; name two of them, or null"
    ):
        checked_params(write(own))
    for pair in (["good", "bad"], None):
        assert checked_params(write({**own, "evaluate.opposite_labels": pair})).evaluate
    unused = {"prepare.files.labels": ["bad", "good"]}  # the source is another
    assert checked_params(write(unused)).evaluate.opposite_labels == ["negative", "positive"]


def test_random_word_embeddings_are_not_frozen(write):
    random = {"student.init": "random", "kd.freeze_word_embeddings": False, "ikd.freeze_word_embeddings": False}
    assert checked_params(write(random)).student.init == "random"
    for section in ("kd", "ikd"):
        key = f"{section}.freeze_word_embeddings"
        with pytest.raises(InputError, match=rf"{key}: with `student\.init: random` .* set it to false"):
            checked_params(write({**random, key: True}))


def test_a_seed_can_be_given_in_place_of_the_files(write):
    assert load_params(Distilled, seed=7, path=write({})).seed == 7
    assert checked_params(write({"seed": 0})).seed == 0


def test_all_mistakes_are_named_at_once(write):
    with pytest.raises(InputError, match=r"student\.layers.*kd\.alpha"):
        checked_params(write({"kd.alpha": -1, "student.layers": 0}))


def test_the_notation_that_dvc_writes_is_a_number(write):
    path = write({"teacher.learning_rate": 0.125})
    path.write_text(path.read_text().replace("0.125", "2e-05"))
    assert checked_params(path).teacher.learning_rate == 2e-5


@pytest.mark.parametrize(
    ("content", "message"),
    [("kd: [1", "not valid YAML"), ("", "expected sections"), ("a: 1\na: 2", "not valid YAML")],
)
def test_a_broken_file_is_named(tmp_path, content, message):
    (tmp_path / "params.yaml").write_text(content)
    with pytest.raises(InputError, match=message):
        checked_params(tmp_path / "params.yaml")


def test_a_missing_file_says_where_to_run(tmp_path):
    with pytest.raises(InputError, match="run from the folder"):
        checked_params(tmp_path / "params.yaml")


def test_needs_are_read_from_the_keys_that_they_name(write):
    @dataclass(frozen=True)
    class Needs:
        seed: int
        own: Annotated[TeacherParams, Key("{section}")]
        transfer: Annotated[str, Key("kd.transfer")]

    assert keys_of(Needs, "teacher") == {"seed": "seed", "own": "teacher", "transfer": "kd.transfer"}
    params = load_params(Needs, "teacher", path=write({"kd.transfer": "news.txt"}))
    assert (params.own.checkpoint, params.transfer) == ("minilm", "news.txt")
    with pytest.raises(InputError, match="a pipeline of kind side_by_side has no section baseline"):
        load_params(Needs, "baseline", path=write({}))


def test_a_network_cannot_start_from_a_later_one_or_from_itself(write):
    message = "prune30.source: expected one of teacher, kd, ikd (got '{}')"
    for source in ("prune30", "prune50", "qat"):
        with pytest.raises(InputError, match=re.escape(message.format(source))):
            checked_params(write({"prune30.source": source}))
    assert checked_params(write({"prune50.source": "prune30"}))


def test_a_variant_that_the_pipeline_does_not_keep_cannot_be_shipped(write):
    with pytest.raises(
        InputError, match=r"ship.variants: the pipeline keeps no `kd_ort_in8`; did you mean `kd_ort_int8`"
    ):
        checked_params(write({"ship.variants": ["teacher", "kd_ort_in8"]}))
