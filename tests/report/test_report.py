"""Page, documents, model cards and metrics say the same, and the page works alone in a browser."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from huggingface_hub import ModelCard
from ruamel.yaml import YAML

from fincompress.core.files import read_json

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

# Column of a table -> how a record's number is written there; said again here, independently of the code under test.
SHOWN = {
    "macro F1": lambda record: f"{record['macro_f1']:.3f}",
    "change [95 %]": lambda record: "{value} [{low}, {high}]".format(
        **{key: in_points(value) for key, value in record["macro_f1_change"].items()}
    ),
    "speed-up [95 %]": lambda record: "{value}× [{low}, {high}]".format(
        **{key: three_digits(value) for key, value in record["speedup"].items()}
    ),
    "validation F1": lambda record: f"{record['val_macro_f1']:.3f}",
    "size (MB)": lambda record: f"{record['size_mb']:.1f}",
    "sentences/s": lambda record: f"{record['throughput_per_s']:,.0f}",
    "agreement": lambda record: f"{100 * record['agreement']:.1f}%",
    "right → wrong": lambda record: str(record["flips"]["right_to_wrong"]),
    "wrong → right": lambda record: str(record["flips"]["wrong_to_right"]),
    "reversals": lambda record: str(record["reversals"]),
    "ECE": lambda record: f"{record['ece']:.3f}",
    "Brier": lambda record: f"{record['brier']:.3f}",
}


COMPARED = {"change [95 %]", "speed-up [95 %]"}
"""Columns that compare with the reference, which has dashes there."""


def in_points(value: float) -> str:
    digits = 1 if abs(100 * value) >= 0.05 or value == 0 else 2
    return f"{100 * value:+z.{digits}f}"


def three_digits(value: float) -> str:
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def shown(name: str, column: str, record: dict) -> str:
    return "–" if column in COMPARED and name in ("teacher", "baseline") else SHOWN[column](record)


class Tables(HTMLParser):
    """Every table of a page as rows of cell texts, and every address that it would load."""

    def __init__(self, page: str):
        super().__init__()
        self.tables: list[list[list[str]]] = []
        self.addresses: list[str] = []
        self.in_cell = False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.addresses += [
            value for key, value in attributes if key in ("src", "href", "xlink:href") and not value.startswith("#")
        ]
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.tables[-1].append([])
        elif tag in ("td", "th"):
            self.tables[-1][-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        if tag in ("td", "th"):
            self.in_cell = False

    def handle_data(self, data):
        if self.in_cell:
            self.tables[-1][-1][-1] += data.strip()


def cells(tables: list[list[list[str]]]) -> dict[tuple[str, str], set[str]]:
    """(variant, column) -> what the tables say there; a set, as several may have the column."""
    found: dict[tuple[str, str], set[str]] = {}
    for head, *rows in (table for table in tables if table and table[0][0] == "variant"):
        for row in rows:
            for column, text in zip(head[1:], row[1:], strict=True):
                found.setdefault((row[0].strip("`"), column), set()).add(text)
    return found


def markdown_tables(text: str) -> list[list[list[str]]]:
    blocks = re.findall(r"(?:^\|.*\|\n)+", text, flags=re.MULTILINE)
    rows = [[[cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines()] for block in blocks]
    return [[row for row in block if not row[0].startswith("---")] for block in rows]


def metrics(root: Path) -> dict[str, dict]:
    return {path.stem: read_json(path) for path in (root / "metrics/variants").glob("*.json")}


def compare(found: dict[tuple[str, str], set[str]], records: dict[str, dict]) -> None:
    for name, record in records.items():
        for column in SHOWN:
            assert found[name, column] == {shown(name, column, record)}, (name, column)


def test_the_committed_page_and_full_tables_say_what_the_committed_metrics_say():
    page = Tables((ROOT / "plots/report.html").read_text(encoding="utf-8"))
    compare(cells(page.tables), metrics(ROOT))
    compare(cells(markdown_tables((ROOT / "docs/results.md").read_text(encoding="utf-8"))), metrics(ROOT))


@pytest.mark.parametrize("folder", [ROOT, *sorted(ROOT.glob("recipes/*"))], ids=lambda folder: folder.name)
def test_the_short_tables_say_what_the_committed_metrics_say(folder):
    found, records = cells(markdown_tables((folder / "README.md").read_text(encoding="utf-8"))), metrics(folder)
    compared = {key: texts for key, texts in found.items() if key[1] in SHOWN}
    assert {column for _, column in compared} == {"macro F1", "change [95 %]", "size (MB)", "speed-up [95 %]"}
    for (name, column), texts in compared.items():
        assert texts == {shown(name, column, records[name])}, (name, column)


def test_the_committed_tables_are_of_the_run_that_the_metrics_are_of():
    records, tables = metrics(ROOT), ROOT / "plots/tables"
    flips = pd.read_csv(tables / "flips.csv").groupby(["variant", "kind"]).size()
    calibration = pd.read_csv(tables / "calibration.csv")
    predictions = pd.read_csv(tables / "predictions.csv")
    for name, record in records.items():
        assert {kind: flips.get((name, kind), 0) for kind in record["flips"]} == record["flips"]
        part = calibration[calibration["variant"] == name]
        ece = ((part["accuracy"] - part["confidence"]).abs() * part["rows"]).sum() / part["rows"].sum()
        assert record["ece"] == pytest.approx(ece, abs=2e-6)
        assert record["accuracy"] == pytest.approx((predictions[name] == predictions["label"]).mean(), abs=1e-6)
        assert record["macro_f1_ci"]["low"] <= record["macro_f1"] <= record["macro_f1_ci"]["high"]


def test_the_page_loads_nothing_from_elsewhere():
    text = (ROOT / "plots/report.html").read_text(encoding="utf-8")
    assert all(address.startswith("data:image/png;base64,") for address in Tables(text).addresses)
    assert "@import" not in text and "url(http" not in text and "fetch(" not in text


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_sorts_and_filters_in_a_browser(tmp_path):
    page = (ROOT / "plots/report.html").read_text(encoding="utf-8")
    deeds = """<script>
        document.querySelectorAll("table.sortable")[0].querySelectorAll("th button")[5].click();  // size, largest first
        document.getElementById("flip-variant").value = "bag_of_words";
        document.getElementById("flip-kind").value = "right_to_wrong";
        document.getElementById("flip-kind").dispatchEvent(new Event("change"));
    </script></body>"""
    (tmp_path / "page.html").write_text(page.replace("</body>", deeds), encoding="utf-8")
    command = [BROWSER, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", str(tmp_path / "page.html")]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True).stdout
    tables = Tables(dom).tables
    records = metrics(ROOT)
    sizes = [records[row[0]]["size_mb"] for row in next(table for table in tables if table[0][0] == "variant")[1:]]
    assert sizes == sorted(sizes, reverse=True)
    listed = next(table for table in tables if table[0][0] == "text")[1:]
    assert len(listed) == records["bag_of_words"]["flips"]["right_to_wrong"] > 0
    assert all(row[2] == row[3] != row[4] and row[0] for row in listed), "true label, the teacher's, the variant's"


@pytest.mark.e2e
def test_cards_say_what_the_metrics_say_and_load_the_model_as_they_say(finished_project):
    records = metrics(finished_project.root)
    shipped = finished_project.root / "models/shipped"
    variants = YAML(typ="safe").load(ROOT / "params.yaml")["ship"]["variants"]
    assert sorted(path.name for path in shipped.iterdir()) == sorted(variants)
    for name in variants:
        text = (shipped / name / "README.md").read_text(encoding="utf-8")
        card = ModelCard(text)  # as the hub reads it
        body = card.text
        assert card.data.pipeline_tag == "text-classification" and card.data.license == "unknown"
        scores = {result.metric_type: result.metric_value for result in card.data.eval_results}
        assert scores == {"f1": records[name]["macro_f1"], "accuracy": records[name]["accuracy"]}
        table = next(table for table in markdown_tables(body) if table[0][0] == "")
        cells_of = {row[0]: row[1] for row in table}
        assert table[0][1] == name
        for column in SHOWN:
            assert cells_of[column] == shown(name, column, records[name])
        (code,) = re.findall(r"```python\n(.*?)```", body, flags=re.DOTALL)
        if name in ("kd", "kd_ort_int8", "qat"):  # one a runtime: starting torch takes long
            environment = {**finished_project.environment(), "PYTHONPATH": str(finished_project.root)}
            ran = subprocess.run(
                ["python", "-c", code], cwd=shipped / name, env=environment, capture_output=True, text=True
            )
            assert ran.returncode == 0, ran.stderr
            assert any(label in ran.stdout for label in ("negative", "neutral", "positive"))


@pytest.mark.e2e
def test_the_page_of_a_run_says_what_its_metrics_say_and_can_leave_texts_out(project):
    page = project.root / "plots/report.html"
    test = pd.read_csv(project.root / "data/test.csv")

    def listed() -> dict:
        (data,) = re.findall(r'id="flip-data">(.*?)</script>', page.read_text(encoding="utf-8"), flags=re.DOTALL)
        return json.loads(data)

    compare(cells(Tables(page.read_text(encoding="utf-8")).tables), metrics(project.root))
    flips = pd.read_csv(project.root / "plots/tables/flips.csv")
    found = listed()
    assert len(found["rows"]) == len(flips) > 0
    for row, flip in zip(found["rows"], flips.itertuples(), strict=True):
        assert [found["labels"][place] for place in row[4:7]] == [flip.label, flip.reference, flip.predicted]
        assert found["variants"][row[0]] == flip.variant and list(found["kinds"])[row[2]] == flip.kind
    assert set(listed()["texts"]) == set(test.loc[test["id"].isin(flips["id"]), "text"])
    project.set_param("report.sentences", False)
    assert project.repro() == ["plots"]
    assert set(listed()["texts"]) == {f"row {number}" for number in flips["id"]}
    assert "Texts are left out" in page.read_text(encoding="utf-8")
