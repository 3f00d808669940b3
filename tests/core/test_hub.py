"""Downloads with the real client from a local hub: pinning, resuming, the cache, one clear error for each failure."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import LABELS, ROOT, make_checkpoint, ran
from hub_server import COMMIT, Hub, environment
from local_server import serving
from odd_checkpoints import in_parts, with_python_tokenizer
from phrasebank_archive import archive
from transformers import BertForSequenceClassification

from fincompress.benchmark.origins import describe
from fincompress.core.errors import InputError
from fincompress.core.files import read_json
from fincompress.core.params import current_pipeline
from fincompress.networks.checkpoints import load_for_labels, load_model

PHRASEBANK, FIQA, FINBERT = "takala/financial_phrasebank", "pauri32/fiqa-2018", "ProsusAI/finbert"
FINBERT_LABELS = ["positive", "negative", "neutral"]  # the published order
LARGE = 24_000_000  # bytes; the client keeps what it got in steps of 10 MB


def sentences(rows: int) -> pd.DataFrame:
    """Rows of three labels that a word decides."""
    words = {"negative": "loss", "neutral": "report", "positive": "profit"}
    rng = random.Random(0)
    labels = [LABELS[number % 3] for number in range(rows)]
    filler = [" ".join(rng.choices(["sales", "the", "company", "net", "EUR"], k=6)) for _ in range(rows)]
    texts = [f"{filler[number]} {words[label]} {number} ." for number, label in enumerate(labels)]
    return pd.DataFrame({"text": texts, "label": labels})


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    """What the hub serves: a small PhraseBank archive, a small FiQA in two files, a tiny FinBERT, an encoder."""
    root = tmp_path_factory.mktemp("hub")
    bank = root / "dataset" / PHRASEBANK / "data"
    bank.mkdir(parents=True)
    lines = "".join(f"{row.text}@{row.label}\r\n" for row in sentences(180).itertuples())
    archive(bank / "FinancialPhraseBank-v1.0.zip", lines)
    fiqa = root / "dataset" / FIQA / "data"
    fiqa.mkdir(parents=True)
    scores = {"negative": -0.6, "neutral": 0.02, "positive": 0.5}
    frame = sentences(90).assign(sentence=lambda rows: "$TSLA " + rows["text"]).drop(columns="text")
    frame = frame.assign(sentiment_score=frame.pop("label").map(scores))
    frame.iloc[:60].to_parquet(fiqa / "train-00000-of-00001.parquet", index=False)
    frame.iloc[60:].to_parquet(fiqa / "test-00000-of-00001.parquet", index=False)
    make_checkpoint(root / "model" / FINBERT, labels=FINBERT_LABELS)
    make_checkpoint(root / "model" / "tiny" / "encoder", layers=3)
    return root


@pytest.fixture
def hub(files):
    with serving(Hub(files)) as server:
        yield server


def call(hub: Hub, home: Path, code: str, **changes: str) -> dict:
    """Run `code`, which sets `answer`, in a process of its own, since the client reads its settings on import."""
    program = f"""
import json
from fincompress.core.errors import InputError
from fincompress.data.financial import read_financial
from fincompress.networks.locate import locate
from fincompress.core.params import checked_params
try:
    prepare = checked_params().prepare
    {code}
except InputError as error:
    answer = {{"error": str(error)}}
print("answer:" + json.dumps(answer))
"""
    result = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=environment(hub, home, **changes),
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.split("answer:")[1])


READ = """frame, origins = read_financial(prepare.phrasebank, prepare.fiqa)
    counts = {name: rows["label"].value_counts().to_dict() for name, rows in frame.groupby("source")}
    answer = {"origins": origins, "rows": len(frame), "labels": counts}"""


def test_both_data_sets_are_downloaded_once_and_their_commit_is_kept(hub, tmp_path):
    answer = call(hub, tmp_path, READ)
    even = {label: 60 for label in LABELS}
    assert answer["labels"] == {"financial_phrasebank": even, "fiqa": {label: 30 for label in LABELS}}
    for origin in answer["origins"].values():
        assert (origin["revision"], origin["commit"]) == ("main", COMMIT)
    assert len(answer["origins"]["fiqa"]["files"]) == 2
    before = hub.downloads()
    assert call(hub, tmp_path, READ) == answer
    assert before and hub.downloads() == before
    hub.broken = 500
    assert call(hub, tmp_path, READ, HF_HUB_OFFLINE="1") == answer


def test_a_pinned_commit_gives_the_same_rows(hub, tmp_path):
    pinned = READ.replace("prepare.fiqa)", f"prepare.fiqa.model_copy(update={{'revision': '{COMMIT}'}}))")
    answer = call(hub, tmp_path, pinned)
    assert answer["origins"]["fiqa"]["revision"] == COMMIT and answer["rows"] == 270


LOCATE = f"""located = locate("{FINBERT}", REVISION, "teacher", "checkpoint")
    answer = {{"folder": located.folder, "origin": located.origin}}"""
AT_MAIN = LOCATE.replace("REVISION", "'main'")


def test_a_checkpoint_is_downloaded_with_its_tokenizer_and_its_commit(hub, tmp_path):
    answer = call(hub, tmp_path, AT_MAIN)
    assert answer["origin"] == {"checkpoint": FINBERT, "revision": "main", "commit": COMMIT}
    names = {path.name for path in Path(answer["folder"]).iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= names


def test_a_checkpoint_without_safetensors_is_read_all_the_same(files, hub, tmp_path):
    model = BertForSequenceClassification.from_pretrained(files / "model" / FINBERT)
    older = files / "model" / "older" / "format"
    make_checkpoint(older)
    (older / "model.safetensors").unlink()
    torch.save(model.state_dict(), older / "pytorch_model.bin")
    answer = call(hub, tmp_path, AT_MAIN.replace(FINBERT, "older/format"))
    weights = load_model(answer["folder"]).state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in model.state_dict().items())


def test_a_tokenizer_of_python_alone_is_fetched_whole_and_refused_by_name(files, hub, tmp_path):
    odd = make_checkpoint(files / "model" / "vinai" / "bertweet")
    with_python_tokenizer(odd)
    answer = call(hub, tmp_path, AT_MAIN.replace(FINBERT, "vinai/bertweet"))
    assert (Path(answer["folder"]) / "bpe.codes").is_file()
    with pytest.raises(InputError, match=r"BertweetTokenizer, runs in Python alone and has no tokenizer\.json"):
        load_for_labels(answer["folder"], LABELS, 48)


def test_a_checkpoint_in_parts_is_fetched_with_all_of_them(files, hub, tmp_path):
    odd = make_checkpoint(files / "model" / "large" / "model")
    whole = load_model(str(odd)).state_dict()
    in_parts(odd)
    weights = load_model(call(hub, tmp_path, AT_MAIN.replace(FINBERT, "large/model"))["folder"]).state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in whole.items())


def test_a_download_that_breaks_off_goes_on_where_it_stopped(files, hub, tmp_path):
    weights = files / "model" / FINBERT / "model.safetensors"
    whole = weights.read_bytes()
    try:
        weights.write_bytes(random.Random(0).randbytes(LARGE))
        hub.cut_after = LARGE // 2
        broken = call(hub, tmp_path, AT_MAIN)["error"]
        assert "`ProsusAI/finbert`" in broken and "HTTP 503; try again later, finished parts are kept" in broken
        hub.cut_after = hub.broken = None
        answer = call(hub, tmp_path, AT_MAIN)
        assert (Path(answer["folder"]) / "model.safetensors").read_bytes() == weights.read_bytes()
        assert hub.ranges("model.safetensors")[-1].startswith("bytes=10")
    finally:
        weights.write_bytes(whole)


@pytest.mark.parametrize(
    ("failure", "code", "reason"),
    [
        (
            "revision",
            LOCATE.replace("REVISION", "'v9'"),
            "revision `v9`) from HOST: it has no such revision; set teacher",
        ),
        (
            "private",
            AT_MAIN,
            "not found, or private (HTTP 401); check the name, and run `hf auth login` or set HF_TOKEN",
        ),
        ("missing", AT_MAIN.replace(FINBERT, "no/such"), "model `no/such` (revision `main`) from HOST: not found, or"),
        ("name", AT_MAIN.replace(FINBERT, "--bert"), "that is not the name of a repository (`owner/name`)"),
        ("down", AT_MAIN, "the hub answered HTTP 503; try again later, finished parts are kept"),
        ("offline", AT_MAIN, "HF_HUB_OFFLINE is set and the files are not in the cache; unset it once to fetch them"),
        ("network", AT_MAIN, "ConnectError"),
        ("private", READ, "or set prepare.phrasebank.path to your copy of FinancialPhraseBank-v1.0.zip"),
    ],
)
def test_each_failure_gives_one_clear_error_that_says_how_to_do_without(hub, tmp_path, failure, code, reason):
    changes = {"offline": {"HF_HUB_OFFLINE": "1"}, "network": {"HF_ENDPOINT": "http://127.0.0.1:9"}}.get(failure, {})
    hub.private = {FINBERT, PHRASEBANK} if failure == "private" else set()
    hub.broken = 503 if failure == "down" else None
    error = call(hub, tmp_path, code, **changes)["error"]
    assert reason.replace("HOST", hub.endpoint) in error
    assert "; or set " in error and "\n" not in error
    assert not [path for path in tmp_path.rglob("*.safetensors")]


def test_a_data_set_without_the_columns_is_named(files, hub, tmp_path):
    other = files / "dataset" / "other" / "fiqa"
    other.mkdir(parents=True)
    pd.DataFrame({"sentence": ["A"], "score": [0.1]}).to_parquet(other / "train.parquet")
    code = READ.replace("prepare.fiqa)", "prepare.fiqa.model_copy(update={'repository': 'other/fiqa'}))")
    error = call(hub, tmp_path, code)["error"]
    assert (
        f"the data set `other/fiqa` at {COMMIT}: split train has no column sentiment_score; found sentence, score"
        in error
    )


@pytest.mark.e2e
def test_make_finbert_trains_from_downloads_and_marks_what_finbert_has_seen(fresh_project, hub, tmp_path, monkeypatch):
    """As far as both students: what the tables make of origins is tested beside them."""
    project = fresh_project.copy(tmp_path / "project")
    (project.root / "tiny/headlines.txt").write_text("\n".join(f"Shares of company {n} fall" for n in range(40)))
    chosen = "-S student.init=tiny/encoder -S kd.transfer=tiny/headlines.txt kd ikd"
    changes = environment(hub, tmp_path / "home")
    run, results = project.make(
        "finbert", "--dry-run", "--no-print-directory", f"SET={chosen}", environment=changes
    ).rsplit("python -m", 1)
    assert run.startswith("dvc exp run ") and results.split() == ["fincompress", "results"]
    changes["PATH"] = project.environment()["PATH"]
    ended = subprocess.run(["bash", "-c", run], cwd=project.root, env=changes, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ran(ended.stdout) in (["prepare", "teacher", *pair] for pair in (["kd", "ikd"], ["ikd", "kd"]))
    assert ended.stdout.count("transfer: 40 unlabelled texts; 0 left out") == 2  # kd and ikd
    data = read_json(project.root / "metrics/about/data.json")
    assert data["rows"]["all"] == 270 and data["origins"]["financial_phrasebank"]["commit"] == COMMIT
    monkeypatch.chdir(project.root)
    models = describe(project.root / "models", current_pipeline(), ["financial_phrasebank", "fiqa"])
    assert models["teacher"] == {"checkpoint": FINBERT, "revision": "main", "commit": COMMIT}
    assert models["student"] == {"checkpoint": "tiny/encoder", "revision": "main", "commit": COMMIT}
    assert list(models["contamination"]) == ["financial_phrasebank"]
    assert set(models["published"]["macro_f1_by_source"]) == {"financial_phrasebank", "fiqa"}
