"""The study of real text: which rows are scored, and what the page says of them."""

import json
import zipfile

import numpy as np
import pandas as pd
from conftest import LABELS, ROOT

from fincompress.core.params import checked_params
from fincompress.runtimes.bag_of_words import BagOfWords
from studies import real_text

SENTENCES = ["Sales rose @positive", "Sales rose @positive", "Seen before@neutral", "Costs ran away@negative"]


class Always:
    """A classifier that says one label."""

    labels = LABELS

    def __init__(self, label: str):
        self.row = np.eye(3, dtype=np.float32)[LABELS.index(label)]

    def encode(self, texts, pad_to=None):
        return {"rows": np.zeros(len(texts))}

    def logits(self, inputs):
        return np.tile(self.row, (len(inputs["rows"]), 1))


def sources(tmp_path):
    with zipfile.ZipFile(tmp_path / "bank.zip", "w") as archive:
        archive.writestr("FinancialPhraseBank-v1.0/Sentences_AllAgree.txt", "\n".join(SENTENCES).encode("latin-1"))
    fiqa = tmp_path / "fiqa"
    fiqa.mkdir()
    post = {"1": {"sentence": "AAPL up", "info": [{"sentiment_score": "0.5", "target": "AAPL"}]}}
    for kind in ("headline", "post"):
        for part in ("train", "test"):
            (fiqa / f"task1_{kind}_ABSA_{part}.json").write_text(json.dumps(post))
    data = tmp_path / "data"
    data.mkdir()
    train = pd.DataFrame({"text": ["Seen before", "Profit up", "Loss"], "label": ["neutral", "positive", "negative"]})
    for name in ("train", "val", "test"):
        train.to_csv(data / f"{name}.csv", index=False)
    params = checked_params(ROOT / "params.yaml").prepare
    phrasebank = params.phrasebank.model_copy(update={"path": str(tmp_path / "bank.zip")})
    fiqa_params = params.fiqa.model_copy(update={"path": str(fiqa)})
    return params.model_copy(update={"phrasebank": phrasebank, "fiqa": fiqa_params}), data, train


def test_rows_are_scored_once_and_not_if_they_were_trained_on_and_the_page_names_every_variant(tmp_path):
    params, data, train = sources(tmp_path)
    real = real_text.read_real(params, data)
    assert {name: frame["text"].tolist() for name, frame in real.items()} == {
        "financial_phrasebank": ["Sales rose", "Costs ran away"],
        "fiqa": ["AAPL up"],
    }
    classifiers = {"kd": Always("positive"), "bag_of_words": BagOfWords.fit(train, LABELS)}
    rows = real_text.score(classifiers, real, 100, seed=0)
    kd = {row["source"]: row for row in rows if row["variant"] == "kd"}
    assert kd["financial_phrasebank"]["accuracy"] == 0.5 and kd["fiqa"]["macro_f1"] == 1.0
    text = real_text.page(rows, real, len(train), 100, None)
    assert "2 sentences of Financial PhraseBank and 1 sentences of FiQA-2018" in text
    assert "| `kd` | 0.333 [" in text and "| `bag_of_words` |" in text


def test_the_readme_quotes_the_page():
    page = (ROOT / "docs/results/real_text.md").read_text(encoding="utf-8")
    readme = " ".join((ROOT / "README.md").read_text(encoding="utf-8").split())
    for name, sentence in (
        ("ikd_ort_int8", "`ikd_ort_int8` reaches {} macro F1 on Financial PhraseBank and {} on FiQA-2018"),
        ("bag_of_words", "a bag of words {} and {}"),
    ):
        (row,) = (line for line in page.splitlines() if line.startswith(f"| `{name}` |"))
        cells = [cell.strip() for cell in row.split("|")]
        assert sentence.format(cells[2].split()[0], cells[5].split()[0]) in readme
