"""Financial PhraseBank and FiQA-2018 from files: the formats, the labels, every bad line named."""

import json
import zipfile

import pytest
from conftest import ROOT
from phrasebank_archive import archive

from fincompress.benchmark.origins import TRAINED_ON
from fincompress.core.data_sections import FiqaParams, PhrasebankParams
from fincompress.core.errors import InputError
from fincompress.core.params import checked_params
from fincompress.core.sections import FINANCIAL_LABELS
from fincompress.data import financial
from fincompress.data.financial import FIQA, PHRASEBANK, read_financial, read_fiqa, read_phrasebank
from fincompress.data.prepared import normalise
from fincompress.data.readers import COLUMNS
from fincompress.data.splits import clean, split

SHARED = ROOT.parent / "shared" / "data"


def phrasebank(path, **changes) -> PhrasebankParams:
    values = {"repository": "takala/financial_phrasebank", "revision": "main", "agreement": "all"}
    return PhrasebankParams(path=str(path), **{**values, **changes})


def fiqa(path, **changes) -> FiqaParams:
    values = {"repository": "pauri32/fiqa-2018", "revision": "main", "positive_above": 0.1, "negative_below": -0.1}
    return FiqaParams(path=str(path), **{**values, **changes})


def records(**scores) -> str:
    """FiQA's JSON: a record a sentence, a target a score."""
    return json.dumps(
        {
            str(number): {"sentence": text, "info": [{"sentiment_score": str(s), "target": "X"} for s in values]}
            for number, (text, values) in enumerate(scores.items())
        }
    )


def test_the_archive_its_folder_and_its_text_file_give_the_same_rows(tmp_path):
    path = archive(tmp_path / "bank.zip")
    with zipfile.ZipFile(path) as packed:
        packed.extractall(tmp_path / "unpacked")
    frames = [
        read_phrasebank(phrasebank(place))[0]
        for place in (
            path,
            tmp_path / "unpacked",
            tmp_path / "unpacked/FinancialPhraseBank-v1.0/Sentences_AllAgree.txt",
        )
    ]
    assert frames[0].equals(frames[1]) and frames[0].equals(frames[2])
    assert list(frames[0].columns) == COLUMNS and set(frames[0]["source"]) == {PHRASEBANK}
    assert frames[0]["text"].tolist() == ["Profit in caf\xe9s rose .", "Write to a@b.fi .", "Sales fell ."]
    assert frames[0]["label"].tolist() == ["positive", "neutral", "negative"]


def test_agreement_chooses_the_file(tmp_path):
    path = archive(tmp_path / "bank.zip", "Half of us think so .@neutral\n", "50Agree")
    frame, origin = read_phrasebank(phrasebank(path, agreement=50))
    assert frame["text"].tolist() == ["Half of us think so ."]
    assert origin["agreement"] == 50 and list(origin["files"]) == ["bank.zip"]
    with pytest.raises(InputError, match=r"bank\.zip: the archive holds no Sentences_75Agree\.txt"):
        read_phrasebank(phrasebank(path, agreement=75))


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("Good .@positive\nno label here\n", "line 2: expected `text@label`"),
        ("Good .@great\n", "line 1: expected `text@label` with one of negative, neutral, positive"),
        ("@positive\n", "line 1: expected"),
        ("", "no sentences"),
    ],
)
def test_a_bad_line_is_named(tmp_path, lines, message):
    with pytest.raises(InputError, match=message):
        read_phrasebank(phrasebank(archive(tmp_path / "bank.zip", lines)))


def test_a_broken_archive_and_a_missing_one_are_named(tmp_path):
    (tmp_path / "bank.zip").write_bytes(archive(tmp_path / "whole.zip").read_bytes()[:100])
    with pytest.raises(InputError, match="not a whole zip archive"):
        read_phrasebank(phrasebank(tmp_path / "bank.zip"))
    with pytest.raises(InputError, match=r"not found \(prepare\.phrasebank\.path\)"):
        read_phrasebank(phrasebank(tmp_path / "none.zip"))


def test_a_sentence_has_the_mean_of_its_scores_over_targets_and_files(tmp_path):
    (tmp_path / "task1_headline_ABSA_test.json").write_text(records(A=[0.9, -0.5], B=[0.1], C=[-0.11], D=[0.3]))
    (tmp_path / "task1_headline_ABSA_train.json").write_text(records(**{"a": [-0.5], "E": [-0.1]}))
    frame, origin = read_fiqa(fiqa(tmp_path))
    assert dict(zip(frame["text"], frame["label"], strict=True)) == {
        "A": "neutral",  # (0.9 - 0.5 - 0.5) / 3 = -0.03
        "B": "neutral",  # just 0.1 is not above it
        "C": "negative",
        "D": "positive",
        "E": "neutral",
    }
    assert list(frame.columns) == COLUMNS and set(frame["source"]) == {FIQA} and frame["id"].is_unique
    assert list(origin["files"]) == ["task1_headline_ABSA_test.json", "task1_headline_ABSA_train.json"]


def test_thresholds_are_parameters(tmp_path):
    (tmp_path / "fiqa.json").write_text(records(A=[0.3], B=[-0.3]))
    labels = [
        read_fiqa(fiqa(tmp_path, positive_above=high, negative_below=low))[0]["label"].tolist()
        for high, low in ((0.3, -0.3), (0.29, -0.29))
    ]
    assert labels == [["neutral", "neutral"], ["positive", "negative"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "expected an object"),
        ("{", "not JSON"),
        ('{"7": {"sentence": "A"}}', "record 7: no `sentence` with"),
        ('{"7": {"sentence": "A", "info": [{"sentiment_score": "high"}]}}', "record 7: sentiment_score 'high'"),
        ('{"7": {"sentence": "A", "info": [{"sentiment_score": 1.5}]}}', "record 7: sentiment_score 1.5"),
        ('{"7": {"sentence": " ", "info": [{"sentiment_score": 1}]}}', "record 7: empty sentence"),
    ],
)
def test_a_bad_record_is_named(tmp_path, content, message):
    (tmp_path / "fiqa.json").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        read_fiqa(fiqa(tmp_path))
    assert "fiqa.json" in str(error.value)


def test_a_folder_without_json_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"holds no \.json file"):
        read_fiqa(fiqa(tmp_path))


def test_what_finbert_has_seen_is_named_as_the_source_is():
    assert set(TRAINED_ON["prosusai/finbert"]) == {financial.PHRASEBANK}


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the real data beside the project")
def test_the_real_data_give_3370_rows_and_no_text_on_two_sides():
    bank = phrasebank(SHARED / "financial_phrasebank/FinancialPhraseBank-v1.0.zip")
    frame, _ = read_financial(bank, fiqa(SHARED / "fiqa"))
    rows, dropped = clean(frame)
    assert len(rows) == 3370 and dropped == {"conflicting": 0, "duplicates": 5}
    assert rows["source"].value_counts().to_dict() == {PHRASEBANK: 2259, FIQA: 1111}
    parts = split(rows, FINANCIAL_LABELS, checked_params(ROOT / "params.yaml").prepare, 42)
    sides = [set(part["text"].map(normalise)) for part in parts.values()]
    assert sum(map(len, sides)) == 3370 == len(set.union(*sides))
