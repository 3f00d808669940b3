"""The study of the tiny student on real data: what is trained on what, what is kept, and how changes are averaged."""

import numpy as np
import pandas as pd
import pytest
from conftest import LABELS
from sklearn.metrics import f1_score

from fincompress.core.params import load_params
from studies import tiny_real

TEXTS = [f"{word} {number}" for number in range(30) for word in ("loss", "flat", "gain")]
ROWS = pd.DataFrame({"text": TEXTS, "label": LABELS * 30})


class Says:
    """A classifier that says the label that the model's name and the seed ask for."""

    labels = LABELS

    def __init__(self, shift: int):
        self.shift = shift

    def encode(self, texts, pad_to=None):
        return {"rows": np.array([("loss", "flat", "gain").index(text.split()[0]) for text in texts])}

    def logits(self, inputs):
        return np.eye(3, dtype=np.float32)[(inputs["rows"] + self.shift) % 3]


@pytest.fixture
def stages(monkeypatch):
    """Stages that only note what they were asked for, and models that are always right, but for one seed's student."""
    ran = []

    def run(folder, data, seed, stages):
        ran.append((folder.parent.name, seed, tuple(stages)))
        (folder / ".finished").mkdir(parents=True, exist_ok=True)
        for stage in stages:
            (folder / ".finished" / stage).touch()
        if "tiny" in stages:
            for below, _ in tiny_real.SMALL.values():
                (folder / below).mkdir(parents=True)
                (folder / below / "seed").write_text(str(seed))

    def opened(folder, runtime, threads):
        seed = folder / "seed"
        return Says(int(seed.is_file() and seed.read_text() == "43"))

    monkeypatch.setattr(tiny_real, "run_stages", run)
    monkeypatch.setattr(tiny_real, "open_classifier", opened)
    return ran


def folds() -> tiny_real.Task:
    halves = [(ROWS.iloc[:45], ROWS.iloc[45:]), (ROWS.iloc[45:], ROWS.iloc[:45])]
    return tiny_real.Task("made up", LABELS, halves)


def test_a_fold_trains_its_teacher_once_and_the_student_once_a_seed_and_nothing_twice(tmp_path, stages):
    params = load_params(tiny_real.Needs)
    said = tiny_real.predictions(folds(), tmp_path, params, 2)
    student = ("tiny", "ptq@tiny")
    whole = ("teacher", params.tiny.source, "augment")
    assert stages == [
        (fold, seed, names)
        for fold in ("fold-0", "fold-1")
        for seed, names in ((42, whole), (42, student), (43, student))
    ]
    assert len(said) == 90 and (said["teacher"] == said["label"]).all() and (said["tiny-42"] == said["label"]).all()
    assert not (said["tiny_ort_int8-43"] == said["label"]).any()
    stages.clear()
    again = tiny_real.predictions(folds(), tmp_path, params, 2)
    pd.testing.assert_frame_equal(again, said)
    assert all("tiny" not in names for _, _, names in stages), "its predictions were kept"


def test_rows_of_a_fold_are_in_one_split_and_training_rows_alone_validate(tmp_path, stages):
    tiny_real.predictions(folds(), tmp_path, load_params(tiny_real.Needs), 1)
    for number, (train, test) in enumerate(folds().folds):
        texts = {
            name: set(pd.read_csv(tmp_path / f"fold-{number}/data/{name}.csv")["text"])
            for name in ("train", "val", "test")
        }
        assert texts["train"] | texts["val"] == set(train["text"]) and not texts["train"] & texts["val"]
        assert texts["test"] == set(test["text"])


def test_changes_are_means_over_seeds_with_one_interval():
    generator = np.random.default_rng(0)
    truth = generator.choice(LABELS, 400)

    def wrong_at(share: float) -> np.ndarray:
        return np.where(generator.random(400) < share, generator.choice(LABELS, 400), truth)

    said = pd.DataFrame({"label": truth, "teacher": wrong_at(0.1), "tiny-42": wrong_at(0.2), "tiny-43": wrong_at(0.4)})
    rows = tiny_real.table(said, 2000, 0).set_index("name")
    f1 = {name: f1_score(truth, said[name], average="macro") for name in said.columns[1:]}
    mean = (f1["tiny-42"] + f1["tiny-43"]) / 2
    own = rows.loc["tiny"]
    assert own["seeds"] == 2 and own["macro_f1"] == pytest.approx(mean)
    assert own["macro_f1_change"]["value"] == pytest.approx(mean - f1["teacher"])
    assert own["spread"] == pytest.approx(np.std([f1["tiny-42"], f1["tiny-43"]], ddof=1))
    resampled = []
    for _ in range(2000):
        drawn = said.iloc[generator.integers(400, size=400)]
        scores = [f1_score(drawn["label"], drawn[name], average="macro") for name in said.columns[1:]]
        resampled.append((scores[1] + scores[2]) / 2 - scores[0])
    low, high = np.percentile(resampled, [2.5, 97.5])
    assert (own["macro_f1_change"]["low"], own["macro_f1_change"]["high"]) == pytest.approx((low, high), abs=0.005)
    accuracy = [(said[name] == truth).mean() for name in ("teacher", "tiny-42", "tiny-43")]
    assert own["accuracy_change"]["value"] == pytest.approx((accuracy[1] + accuracy[2]) / 2 - accuracy[0])
    page = "\n".join(tiny_real.section(folds(), tiny_real.table(said, 100, 0), len(said)))
    assert f"| `tiny` | 2 | {mean:.3f} ±" in page and "| `teacher` | 1 |" in page
