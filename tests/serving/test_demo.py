"""The demo, as functions and in a real browser; and the folder that runs it alone."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import pytest
from conftest import LABELS, ROOT
from ruamel.yaml import YAML

from fincompress.cli import show
from fincompress.compress.ptq import to_onnx_int8
from fincompress.core.errors import InputError
from fincompress.core.examples import EXAMPLES
from fincompress.core.runtimes import RUNTIMES
from fincompress.core.sections import PtqParams
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.convert import to_onnx
from fincompress.serving import batch, demo, space
from fincompress.serving.batch import score_batch
from fincompress.serving.classifier import Prediction, load_classifier
from fincompress.serving.differences import differing
from fincompress.serving.duel import KEPT, LONGEST, Duel, Opinion, remembered
from fincompress.serving.files import score_file

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SENTENCE = "Operating profit rose to EUR 13.1 mn from EUR 8.7 mn."
needs_browser = pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")


@pytest.fixture(scope="module")
def project(checkpoint, tmp_path_factory) -> Path:
    """A folder as a run leaves it: the committed metrics and figures, with a tiny teacher and a tiny int8 student."""
    root = tmp_path_factory.mktemp("demo")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy2(ROOT / name, root / name)
    for name in ("metrics", "plots"):
        shutil.copytree(ROOT / name, root / name)
    save(load_model(str(checkpoint)), load_tokenizer(str(checkpoint), 32), root / "models/teacher", {})
    said = pd.read_csv(ROOT / "plots/tables/predictions.csv", dtype=str)
    (root / "data").mkdir()
    said[["id", "label"]].assign(text="Sentence " + said["id"]).to_csv(root / "data/test.csv", index=False)
    params = PtqParams(calibration_samples=1, keep_classifier_float=False, embedding_group=None)
    to_onnx_int8(root / "models/teacher", root / "models/ptq/ikd_ort_int8", params)
    to_onnx(root / "models/teacher", root / "models/ptq/kd_ort_int8")
    return root


@pytest.fixture
def duel(project) -> Duel:
    folders = {"teacher": project / "models/teacher", "kd_ort_int8": project / "models/ptq/kd_ort_int8"}
    return Duel({**folders, "gone": project / "models/none"}, "teacher", threads=1)


def test_both_models_are_asked_and_agreement_is_told(duel):
    (first, second), banner = duel.judge(SENTENCE, "kd_ort_int8")
    assert (first.name, second.name) == ("teacher", "kd_ort_int8")
    assert first.prediction.label == second.prediction.label and first.latency_ms > 0
    assert banner.startswith(f"Both say **{first.prediction.label}**. kd_ort_int8 takes ")


def test_disagreement_is_told(duel, monkeypatch):
    duel.judge(SENTENCE, "kd_ort_int8")
    loaded = duel._loaded["kd_ort_int8"]
    monkeypatch.setattr(
        loaded._classifier, "logits", lambda inputs: -duel._loaded["teacher"]._classifier.logits(inputs)
    )
    _, banner = duel.judge(SENTENCE, "kd_ort_int8")
    assert re.match(r"\*\*They disagree\*\*: teacher says \*\*\w+\*\*, kd_ort_int8 \*\*\w+\*\*\.", banner)


@pytest.mark.parametrize("text", ["", "   \n", None])
def test_an_empty_sentence_is_met_with_an_invitation(duel, text):
    assert duel.judge(text, "kd_ort_int8") == ([], "Type a sentence, or take one of the examples.")


def test_a_text_that_is_cut_is_said_to_be_and_a_missing_model_is_no_crash(duel):
    assert "Only the beginning of this text is read" in duel.judge("profit " * 1000, "kd_ort_int8")[1]
    assert "Only the beginning" not in duel.judge("profit", "kd_ort_int8")[1]
    opinions, banner = duel.judge(SENTENCE, "gone")
    assert opinions == [] and banner.startswith("**That did not work**: ") and "no model there" in banner


def test_an_overlong_text_is_refused_with_its_length_before_a_model_reads_it(duel):
    opinions, banner = duel.judge("a" * (LONGEST + 1), "gone")
    assert opinions == [] and "**Too long**: this text has 10,001 characters" in banner and "10,000 at most" in banner
    assert duel.judge("a" * LONGEST, "kd_ort_int8")[0] != []


def test_the_history_has_the_last_texts_first_and_each_once():
    def opinion(text: str) -> list[Opinion]:
        return [Opinion("kd", Prediction(text, "positive", {"positive": 0.75, "negative": 0.25}), 1.0)]

    history = []
    for number in range(KEPT + 5):
        history = remembered(history, opinion(f"text {number}"))
    assert len(history) == KEPT and history[0] == [f"text {KEPT + 4}", "kd: positive 0.75"]
    again = remembered(history, opinion("text 20"))
    assert [row[0] for row in again[:2]] == ["text 20", f"text {KEPT + 4}"] and sorted(again) == sorted(history)
    assert remembered(history, []) == history, "what was not answered is not kept"


def test_the_page_shows_both_answers_and_remembers_them(duel):
    function = demo._shown(duel)
    banner, first, second, history, table = function(SENTENCE, "kd_ort_int8", [])
    assert "say" in banner and history == table and history[0][0] == SENTENCE
    assert history[0][1].startswith("teacher: ") and history[0][2].startswith("kd_ort_int8: ")
    assert first.label.startswith("teacher · ") and second.label.startswith("kd_ort_int8 · ")
    _, first, _, kept, _ = function(" ", "kd_ort_int8", history)
    assert first.label == "teacher" and not first.value and kept == history


@pytest.mark.parametrize("pasted", [True, False])
def test_many_texts_get_the_file_that_predict_writes(duel, project, tmp_path, pasted):
    texts = ["Profit rose,\u2028again.", 'Sales "fell".']
    pd.DataFrame({"text": texts}).to_csv(tmp_path / "in.csv", index=False)
    score_file(
        load_classifier(project / "models/ptq/kd_ort_int8", threads=1), tmp_path / "in.csv", tmp_path / "out.csv"
    )
    given = ("\n  \n".join(texts), None) if pasted else ("", str(tmp_path / "in.csv"))
    answers = demo._scored(duel)(*given, "kd_ort_int8")
    message, table, file = next(answers)
    assert message == "2 texts, scored by kd_ort_int8." and table.label == "Preview: all 2"
    assert Path(file.value["path"]).read_text() == (tmp_path / "out.csv").read_text()
    assert list(answers) == []


BATCHES = {
    "nothing": (" \n", None, "paste some lines, or upload a .csv file"),
    "both": ("Profit.", "text\nLoss.\n", "paste lines or upload a file, not both"),
    "many": ("a\nb\nc\nd", None, "lines.csv: more than 3 texts; `fincompress predict --input` scores any number"),
    "long": ("", f"text\nLoss.\n{'a' * 10_001}\n", "in.csv, line 3: a text of 10,001 characters, where 10,000 are"),
    "column": ("", "words\nLoss.\n", "in.csv: no column `text`; columns found: words"),
    "empty": ("", "text,id\n ,1\n", "in.csv, line 2: empty text in column `text`"),
}


@pytest.mark.parametrize("name", BATCHES)
def test_many_texts_are_bounded_and_a_mistake_is_said_without_the_servers_folder(duel, tmp_path, monkeypatch, name):
    lines, content, message = BATCHES[name]
    monkeypatch.setattr(batch, "ROWS", 3)
    if content is not None:
        (tmp_path / "in.csv").write_text(content)
    (answer,) = demo._scored(duel)(lines, str(tmp_path / "in.csv") if content else None, "kd_ort_int8")
    assert answer[0].startswith(f"**That did not work**: {message}") and "/" not in answer[0]
    assert not answer[1].visible and not answer[2].visible


def test_another_kind_of_file_and_a_model_that_is_gone_are_said(duel, tmp_path):
    (tmp_path / "in.txt").write_text("Profit.")
    with pytest.raises(InputError, match=r"^in\.txt: not a \.csv file"):
        score_batch(duel.classifier("kd_ort_int8"), "", tmp_path / "in.txt", tmp_path)
    (answer,) = demo._scored(duel)("Profit.", None, "gone")
    assert "no model there" in answer[0]


def test_sentences_on_which_a_variant_differs_are_those_of_the_table_whose_rows_are_still_there(tmp_path):
    predictions, test = tmp_path / "predictions.csv", tmp_path / "test.csv"
    assert differing(predictions, test, "teacher") == {}
    predictions.write_text("id,label,teacher,kd,tiny\n1,a,a,b,a\n2,a,a,b,a\n3,b,b,a,b\n4,b,b,a,b\n5,a,a,b,a\n")
    test.write_text("id,text,label\n1,one,a\n2,two,b\n3,NA,b\n4,four,b\n9,nine,a\n5,five,a\n5,other,a\n")
    assert differing(predictions, test, "teacher") == {"kd": ["one", "NA", "four"], "tiny": []}
    assert differing(predictions, test, "teacher", count=1)["kd"] == ["one"]
    assert differing(predictions, test, "other") == {}


@pytest.mark.parametrize("allowed", [True, False])
def test_the_command_shows_sentences_only_if_the_report_may(project, tmp_path, monkeypatch, allowed):
    for path in project.iterdir():
        (tmp_path / path.name).symlink_to(path)
    (tmp_path / "params.yaml").unlink()
    yaml = YAML()
    params = yaml.load(project / "params.yaml")
    params["report"]["sentences"] = allowed
    yaml.dump(params, tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)
    seen = {}

    class Page:
        def launch(self, **options):
            seen["options"] = options

    def build(duel, chosen, table, figures, differences):
        seen.update(chosen=chosen, table=table, differences=differences)
        return Page()

    monkeypatch.setattr("fincompress.serving.demo.build", build)
    show.demo()
    assert seen["chosen"] == "ikd_ort_int8" and seen["table"][0][0] == "variant"
    assert seen["options"]["max_file_size"] == demo.UPLOAD
    texts = seen["differences"].get("kd_ort_int8", [])
    assert [text.startswith("Sentence ") for text in texts] == ([True] * 5 if allowed else [])


@contextmanager
def running(command: list[str], folder: Path, **environment: str):
    """The address of a demo that was started in `folder`."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = folder / "demo.log"
    values = {**os.environ, "GRADIO_SERVER_PORT": str(port), "GRADIO_ANALYTICS_ENABLED": "False", **environment}
    with log.open("w") as output:
        process = subprocess.Popen(
            [part.replace("PORT", str(port)) for part in command], cwd=folder, env=values, stdout=output, stderr=output
        )
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            try:
                urllib.request.urlopen(address, timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, log.read_text()
                time.sleep(0.5)
        else:
            raise AssertionError(log.read_text())
        yield address
    finally:
        process.terminate()
        process.wait(timeout=180)


@contextmanager
def browsing(address: str):
    """A page of a real browser, which fails the test where the page's script fails."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1200, "height": 900})
        failures: list[str] = []
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.set_default_timeout(180_000)  # the first answer loads torch, beside whatever else the machine does
        page.goto(address)
        yield page
        browser.close()
    assert failures == []


def classify(page, text: str) -> str:
    """Type another sentence than the last, click, and read the banner when it has changed."""
    said = "document.querySelector('#banner p')?.innerText ?? ''"
    before = page.evaluate(said)
    page.locator("#sentence textarea").fill(text)
    page.locator("#classify").click()
    page.wait_for_function(f"before => {{ const now = {said}; return now && now !== before; }}", arg=before)
    return page.evaluate(said)


def score_in_the_browser(page) -> None:
    """Paste two lines, and download their answers."""
    page.get_by_role("tab", name="Many texts").click()
    page.locator("#lines textarea").fill(f"{SENTENCE}\nSales fell.")
    page.locator("#score").click()
    with page.expect_download() as download:
        page.locator("#scored a").first.click()
    scored = pd.read_csv(download.value.path())
    assert scored["text"].tolist() == [SENTENCE, "Sales fell."] and set(scored["predicted_label"]) <= set(LABELS)


@needs_browser
@pytest.mark.e2e
def test_a_reader_types_clicks_and_reads_the_answer_of_both_models(project, tmp_path):
    command = [sys.executable, "-m", "fincompress", "demo", "--port", "PORT"]
    with running(command, project, PYTHONPATH=str(ROOT)) as address, browsing(address) as page:
        banner = classify(page, SENTENCE)
        assert "Both say" in banner or "They disagree" in banner
        for place, name in (("reference", "teacher"), ("variant", "ikd_ort_int8")):
            bars = page.locator(f"#bars-{place}").inner_text()
            assert f"{name} · " in bars and all(label in bars for label in LABELS)
        assert "Type a sentence" in classify(page, " ")
        assert "Only the beginning" in classify(page, "profit " * 1000)
        example = list(EXAMPLES)[1]
        page.get_by_text(example).click()
        typed = "text => document.querySelector('#sentence textarea').value.startsWith(text)"
        page.wait_for_function(typed, arg=example)
        assert SENTENCE in page.locator("#history").inner_text()
        page.locator("#unlike button").first.click()
        page.wait_for_function(typed, arg="Sentence ")
        score_in_the_browser(page)
        page.get_by_role("tab", name="Benchmark").click()
        page.get_by_role("gridcell").get_by_text("teacher_ort_int8", exact=True).first.wait_for()
        page.locator("img").first.wait_for()
        page.get_by_role("tab", name="How it works").click()
        page.get_by_text("trains a smaller network").wait_for()


ALONE = {"PYTHONPATH": "", "GRADIO_ANALYTICS_ENABLED": "False"}


@pytest.fixture(scope="module")
def space_folder(project, tmp_path_factory) -> Path:
    return space.write_space(project / "models/ptq/ikd_ort_int8", tmp_path_factory.mktemp("space") / "hf_space")


def test_the_space_answers_on_its_own_code_without_what_it_does_not_list(space_folder):
    names = {path.name for path in space_folder.iterdir()}
    assert names == {"app.py", "requirements.txt", "README.md", "model", "fincompress"}
    assert "torch" not in (space_folder / "requirements.txt").read_text()
    probe = """
import sys
for absent in ("torch", "transformers", "ruamel", "pyarrow", "sklearn"):
    sys.modules[absent] = None
import app, fincompress
app.duel.judge("Profit rose.", app.NAME)
from fincompress.serving.demo import _scored
next(_scored(app.duel)("Profit rose.", None, app.NAME))
print(fincompress.__file__, [name for name in sys.modules if name.startswith("fincompress.core.s")])
"""
    ended = subprocess.run(
        [sys.executable, "-c", probe], cwd=space_folder, env={**os.environ, **ALONE}, capture_output=True, text=True
    )
    assert ended.stdout.strip() == f"{space_folder / 'fincompress/__init__.py'} []", ended.stderr


@needs_browser
@pytest.mark.e2e
def test_the_space_answers_in_a_browser(space_folder):
    with running([sys.executable, "app.py"], space_folder, **ALONE) as address, browsing(address) as page:
        banner = classify(page, SENTENCE)
        assert any(label in banner for label in LABELS)
        assert page.locator("#unlike").count() == 0 or not page.locator("#unlike").is_visible()
        score_in_the_browser(page)


def test_a_space_holds_all_that_the_demo_imports():
    for modules in space.RUNTIMES.values():
        copied = {*space.MODULES, *modules}
        texts = [(ROOT / f"fincompress/{name}.py").read_text(encoding="utf-8") for name in copied]
        run = re.sub(r"^if TYPE_CHECKING:.*\n(?:(?: .*)?\n)+", "", "\n".join(texts), flags=re.MULTILINE)
        imported = re.findall(r"^ *from fincompress\.([\w.]+) import", run, re.MULTILINE)
        assert {name.replace(".", "/") for name in imported} <= copied
        used = {name.replace(".", "/") for name in imported} | set(modules) | {"serving/demo"}
        assert copied <= used | {"serving/demo"}, "and no more"


def test_a_space_has_the_modules_of_the_runtimes_classifier():
    for name, modules in space.RUNTIMES.items():
        assert RUNTIMES[name].classifier.partition(":")[0] == f"fincompress.{modules[0].replace('/', '.')}"
        assert RUNTIMES[name].package == name


def test_a_space_is_refused_where_it_cannot_be_written(project, tmp_path):
    with pytest.raises(InputError, match="a Space takes a converted model"):
        space.write_space(project / "models/teacher", tmp_path / "out")
    (tmp_path / "full").mkdir()
    (tmp_path / "full/file").touch()
    with pytest.raises(InputError, match="exists already"):
        space.write_space(project / "models/ptq/ikd_ort_int8", tmp_path / "full")
