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

import pytest
from conftest import LABELS, ROOT

from fincompress.compress.ptq import to_onnx_int8
from fincompress.core.errors import InputError
from fincompress.core.runtimes import RUNTIMES
from fincompress.core.sections import PtqParams
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.convert import to_onnx
from fincompress.serving import space
from fincompress.serving.demo import Duel

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
    assert "Only the beginning of this text is read" in duel.judge("profit " * 5000, "kd_ort_int8")[1]
    assert "Only the beginning" not in duel.judge("profit", "kd_ort_int8")[1]
    opinions, banner = duel.judge(SENTENCE, "gone")
    assert opinions == [] and banner.startswith("**That did not work**: ") and "no model there" in banner


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
        assert "Only the beginning" in classify(page, "profit " * 3000)
        page.get_by_text("Losses narrowed for the third quarter in a row.").click()
        page.wait_for_function("document.querySelector('#sentence textarea').value.startsWith('Losses narrowed')")
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
for absent in ("torch", "transformers", "ruamel"):
    sys.modules[absent] = None
import app, fincompress
app.duel.judge("Profit rose.", app.NAME)
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


def test_a_space_holds_all_that_the_demo_imports():
    for modules in space.RUNTIMES.values():
        copied = {*space.MODULES, *modules}
        texts = ((ROOT / f"fincompress/{name}.py").read_text(encoding="utf-8") for name in copied)
        imported = re.findall(r"^ *from fincompress\.([\w.]+) import", "\n".join(texts), re.MULTILINE)
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
