"""The HTTP server: predict's answers bit for bit, bounds that hold, and an end that loses nothing."""

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest
import schemathesis
from conftest import ROOT
from http_servers import JSON, Address, Reply, reply, serving_app, serving_process
from hypothesis import settings
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner

from fincompress.cli.main import app as command_line
from fincompress.compress.ptq import to_onnx_int8
from fincompress.core.errors import InputError
from fincompress.core.sections import PtqParams
from fincompress.data.sources import read_embedded
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.runtimes.convert import to_onnx
from fincompress.runtimes.registry import weights_digest
from fincompress.serving.classifier import Prediction, load_classifier
from fincompress.serving.server import LocalEngine, Service, about, serve
from fincompress.serving.server_app import About, create_app
from fincompress.serving.server_limits import Limits
from fincompress.serving.server_queue import BATCH, Unavailable

TEXTS = read_embedded()["text"].head(80).tolist()
SMALL = Limits(texts=4, chars=50, body_bytes=400, queue=8, in_flight=6, read_s=0.3, answer_s=5)


@pytest.fixture(scope="module")
def models(checkpoint, tmp_path_factory) -> dict[str, Path]:
    """A tiny network for ONNX Runtime, in int8 (fed one by one) and in fp32 (fed in batches)."""
    folder = tmp_path_factory.mktemp("models")
    save(load_model(str(checkpoint)), load_tokenizer(str(checkpoint), 32), folder / "torch", {})
    params = PtqParams(calibration_samples=1, keep_classifier_float=False, embedding_group=None)
    to_onnx_int8(folder / "torch", folder / "int8", params)
    to_onnx(folder / "torch", folder / "fp32")
    return {name: folder / name for name in ("int8", "fp32")}


@pytest.fixture(scope="module")
def address(models) -> Iterator[Address]:
    """A server with a model, within small limits."""
    engine = LocalEngine(models["int8"], None, 2)
    limits = Limits(texts=8, chars=100, body_bytes=4000, queue=64)
    with serving_app(create_app(engine, about(Service(models["int8"])), limits)) as found:
        yield found


@pytest.fixture(scope="module")
def described(address):
    """What the server says of itself."""
    return schemathesis.openapi.from_url(f"http://127.0.0.1:{address.port}/openapi.json")


class Gate:
    """An engine that answers when it is let, and remembers what it was asked."""

    ready = True

    def __init__(self, joins: bool = True, calls: int = 1, fails: Exception | None = None):
        self.joins, self.calls, self.fails = joins, calls, fails
        self.open, self.asked = threading.Event(), []

    async def classify(self, texts: list[str]) -> list[Prediction]:
        self.asked.append(texts)
        while not self.open.is_set():
            await asyncio.sleep(0.005)
        if self.fails:
            raise self.fails
        return [Prediction(text, "long" if len(text) > 9 else "short", {"long": 0.5, "short": 0.5}) for text in texts]

    def close(self) -> None:
        self.open.set()


def gated(gate: Gate, limits: Limits = SMALL):
    return serving_app(create_app(gate, About("gate", "0"), limits))


def value(address: Address, name: str, **labels: str) -> float:
    """A sample of /metrics."""
    families = text_string_to_metric_families(address.get("/metrics").body.decode())
    samples = [sample for family in families for sample in family.samples]
    return next((one.value for one in samples if one.name == f"fincompress_{name}" and one.labels == labels), 0.0)


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def predicted(model: Path, texts: list[str]) -> list[dict]:
    """What `fincompress predict --json` answers, as the server writes it."""
    result = CliRunner().invoke(command_line, ["predict", *texts, "--model", str(model), "--json"])
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    return [{key: line[key] for key in ("label", "probabilities")} for line in lines]


@pytest.mark.parametrize("kind", ["int8", "fp32"])
@pytest.mark.parametrize("threads", [1, 3])
def test_answers_are_those_of_predict_bit_for_bit_whoever_else_asks(models, kind, threads):
    requests = [TEXTS[:1], TEXTS[1:2], TEXTS[2:7], TEXTS, TEXTS[::-1], [TEXTS[0]] * 3, *([text] for text in TEXTS[:20])]
    engine = LocalEngine(models[kind], None, threads)
    service = Service(models[kind])
    with (
        serving_app(create_app(engine, about(service), Limits())) as address,
        ThreadPoolExecutor(8) as clients,
    ):
        replies = list(clients.map(address.classify, requests))
        single = address.classify(TEXTS[0])
    assert {one.status for one in replies} == {200}
    version = weights_digest(models[kind], "onnxruntime")
    for texts, one in zip(requests, replies, strict=True):
        name = one.json()["model"]
        assert name["name"] == kind and version.startswith(name["version"]) and len(name["version"]) == 12
        assert one.json()["predictions"] == predicted(models[kind], texts)
    assert single.json() == replies[0].json()


BAD = {
    "no JSON": ("[1", 422, "body: Invalid JSON"),
    "no object": ("[]", 422, "body: "),
    "nothing": ("", 422, "body: Invalid JSON"),
    "no texts": ("{}", 422, "texts: Field required"),
    "another key": ('{"text": "a"}', 422, "texts: Field required; unknown key `text`"),
    "a number": ('{"texts": 5}', 422, "texts: neither a text nor a list of texts"),
    "null": ('{"texts": null}', 422, "texts: neither a text nor a list of texts"),
    "none": ('{"texts": []}', 422, "texts: List should have at least 1 item after validation, not 0"),
    "too many": (json.dumps({"texts": ["a"] * 5}), 422, "texts: List should have at most 4 items"),
    "a number among them": ('{"texts": ["a", 3]}', 422, "texts[1]: Input should be a valid string"),
    "a blank one": ('{"texts": ["a", " \\n"]}', 422, "texts[1]: empty text"),
    "blank": ('{"texts": ""}', 422, "texts: empty text"),
    "too long a text": (json.dumps({"texts": ["a", "b" * 51]}), 422, "texts[1]: String should have at most 50"),
    "half a character": (r'{"texts": ["\ud800"]}', 422, "body: Invalid JSON: "),
    "bytes that are no text": (b'{"texts": "\xff"}', 422, "body: Invalid JSON: "),
    "too long a body": (json.dumps({"texts": ["a" * 45] * 12}), 413, "the body is longer than 400 bytes"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_a_request_is_told_in_one_line(case):
    body, status, detail = BAD[case]
    with gated(Gate()) as address:
        answer = address.ask("POST", "/v1/classify", body, JSON)
        assert answer.status == status and answer.json()["detail"].startswith(detail), answer.body
        assert value(address, "requests_total", status=str(status)) == 1


def test_a_body_of_another_type_and_another_method_are_told():
    with gated(Gate()) as address:
        assert (
            "Content-Type: application/json" in address.ask("POST", "/v1/classify", '{"texts": "a"}').json()["detail"]
        )
        assert address.get("/v1/classify").status == 405 and address.get("/v2").status == 404


def test_a_body_without_length_is_cut_off_while_it_is_read_and_the_connection_goes_on():
    sent = []

    def parts():
        for _ in range(100):
            sent.append(1)
            yield b"x" * 100

    gate = Gate()
    gate.open.set()
    with gated(gate) as address:
        connection = address.connect()
        connection.request("POST", "/v1/classify", parts(), JSON, encode_chunked=True)
        answer = reply(connection)
        assert answer.status == 413 and "longer than 400 bytes" in answer.json()["detail"]
        connection.request("POST", "/v1/classify", '{"texts": "a"}', JSON)
        assert reply(connection).status == 200


def test_a_body_that_does_not_arrive_is_not_waited_for():
    with gated(Gate()) as address:
        connection = address.connect()
        connection.putrequest("POST", "/v1/classify")
        for name, content in {**JSON, "Content-Length": "30"}.items():
            connection.putheader(name, content)
        connection.endheaders(b'{"texts":')
        answer = reply(connection)
        assert answer.status == 408 and "within 0.3 s" in answer.json()["detail"]


def test_a_full_queue_sheds_with_retry_after_while_health_answers_and_those_inside_are_answered():
    gate = Gate(calls=1)
    with gated(gate) as address, ThreadPoolExecutor(8) as clients:
        first = clients.submit(address.classify, ["first"])
        until(lambda: gate.asked)
        waiting = [clients.submit(address.classify, ["a", "b", "c", "d"]) for _ in range(2)]
        until(lambda: value(address, "queue_texts") == 8)
        shed = address.classify("one more")
        assert shed.status == 429 and int(shed.headers["retry-after"]) >= 1 and "8 texts" in shed.json()["detail"]
        assert value(address, "requests_in_flight") == 3
        assert address.get("/healthz").json() == {"status": "ok"}
        assert address.get("/readyz").json() == {"status": "ready"}
        gate.open.set()
        assert [one.result().status for one in (first, *waiting)] == [200, 200, 200]
        assert [value(address, name) for name in ("queue_texts", "requests_in_flight", "texts_total")] == [0, 0, 9]
        assert value(address, "requests_total", status="200") == 3 == value(address, "request_seconds_count")
        assert value(address, "requests_total", status="429") == 1


def test_open_requests_are_bounded_even_if_their_bodies_are_not_there_yet(caplog):
    with gated(Gate(), Limits(texts=4, queue=8, in_flight=2, read_s=5)) as address:
        slow = [address.connect() for _ in range(2)]
        for connection in slow:
            connection.putrequest("POST", "/v1/classify")
            connection.putheader("Content-Type", "application/json")
            connection.putheader("Content-Length", "30")
            connection.endheaders(b"{")
        until(lambda: value(address, "requests_in_flight") == 2)
        shed = address.classify("one more")
        assert shed.status == 429 and shed.headers["retry-after"] == "1" and "2 requests" in shed.json()["detail"]
        for connection in slow:
            connection.close()
        until(lambda: value(address, "requests_total", status="400") == 2)
        assert value(address, "requests_in_flight") == 0 and caplog.text == ""


def test_what_waited_in_vain_gets_503_and_what_was_begun_504():
    gate = Gate()
    with gated(gate, Limits(texts=40, queue=99, answer_s=0.4)) as address, ThreadPoolExecutor(2) as clients:
        begun = clients.submit(address.classify, ["begun"])
        until(lambda: gate.asked)
        waited = clients.submit(address.classify, ["waited"])
        assert begun.result().status == 504 and "within 0.4 s" in begun.result().json()["detail"]
        assert waited.result().status == 503 and waited.result().headers["retry-after"]
        gate.open.set()
        assert address.classify("later").status == 200
        assert ["waited"] not in gate.asked, "nobody waits for its answer"


def test_a_long_request_does_not_hold_up_a_short_one():
    gate, many = Gate(), [str(number) for number in range(100)]
    limits = Limits(texts=200, queue=300)
    with gated(gate, limits) as address, ThreadPoolExecutor(3) as clients:
        futures = [clients.submit(address.classify, ["first"])]
        until(lambda: gate.asked)
        for texts, depth in ((many, 100), (["the short one"], 101)):
            futures.append(clients.submit(address.classify, texts))
            until(lambda depth=depth: value(address, "queue_texts") == depth)
        gate.open.set()
        labels = [[one["label"] for one in future.result().json()["predictions"]] for future in futures]
    assert labels == [["short"], ["short"] * 100, ["long"]]
    assert gate.asked[1] == many[:BATCH] and gate.asked[2][0] == "the short one"
    assert [text for texts in gate.asked[1:] for text in texts] == [*many[:BATCH], "the short one", *many[BATCH:]]


def test_a_model_whose_answers_depend_on_the_batch_gets_each_request_alone_and_whole():
    gate = Gate(joins=False)
    requests = [["first"], [str(number) for number in range(50)], ["a", "b"], ["c"]]
    with gated(gate, Limits()) as address, ThreadPoolExecutor(4) as clients:
        futures = []
        for texts in requests:
            futures.append(clients.submit(address.classify, texts))
            until(lambda: len(gate.asked) == 1 and value(address, "requests_in_flight") == len(futures))
        gate.open.set()
        assert {future.result().status for future in futures} == {200}
    assert sorted(gate.asked) == sorted(requests)


@pytest.mark.parametrize(
    ("error", "status"), [(ValueError("cannot read: my secret"), 500), (Unavailable("no replica"), 503)]
)
def test_a_model_that_fails_is_told_and_logged_without_the_text(error, status, caplog):
    gate = Gate(fails=error)
    gate.open.set()
    with gated(gate) as address:
        answer = address.classify("my secret")
        assert answer.status == status and "secret" not in answer.body.decode() + caplog.text
        gate.fails = None
        assert address.classify("a").status == 200, "it goes on"
    assert ("classification failed with ValueError" in caplog.text) == (status == 500)


def test_a_server_whose_model_is_gone_is_not_ready():
    gate = Gate()
    with gated(gate) as address:
        gate.ready = False
        assert address.get("/readyz").status == 503 and address.get("/healthz").status == 200


def test_sigterm_lets_open_requests_end_and_takes_no_others_and_no_text_is_logged(models, tmp_path):
    texts = ["a secret text", *TEXTS]
    body = json.dumps({"texts": texts}).encode()
    with serving_process(models["int8"], tmp_path / "log", "--threads", "1") as (process, address):
        connection = address.connect()
        connection.putrequest("POST", "/v1/classify")
        connection.putheader("Content-Type", "application/json")
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body[:20])
        until(lambda: value(address, "requests_in_flight") == 1)
        process.send_signal(signal.SIGTERM)
        until(lambda: _refused(address))
        connection.send(body[20:])
        answer = reply(connection)
        assert answer.status == 200 and answer.json()["predictions"] == predicted(models["int8"], texts)
        assert process.wait(timeout=30) == 0
    log = (tmp_path / "log").read_text()
    assert "secret" not in log and len(log.splitlines()) == 1, log


def _refused(address: Address) -> bool:
    try:
        address.get("/healthz")
    except ConnectionError:
        return True
    return False


def test_a_mistake_is_told_before_a_model_is_loaded(models, tmp_path):
    with pytest.raises(InputError, match="--max-texts 9: more than --queue 8"):
        Limits(texts=9, queue=8)
    with pytest.raises(InputError, match="--replicas: more than one needs --engine ray"):
        serve(Service(models["int8"], replicas=2), Limits(), "127.0.0.1", 0)
    with pytest.raises(InputError, match="no model there"):
        serve(Service(tmp_path), Limits(), "127.0.0.1", 0)
    with gated(Gate()) as address, pytest.raises(InputError, match=f"--port {address.port}: Address already in use"):
        serve(Service(models["int8"]), Limits(), "127.0.0.1", address.port)


def test_a_twin_is_only_had_of_a_model_that_is_fed_one_by_one_on_one_thread(models):
    with pytest.raises(ValueError, match="side by side"):
        load_classifier(models["fp32"], threads=1).twin()
    with pytest.raises(ValueError, match="side by side"):
        load_classifier(models["int8"], threads=2).twin()


def test_the_server_loads_neither_torch_nor_what_else_only_the_pipeline_needs(models):
    program = (
        "import sys; from fincompress.serving.server import LocalEngine; from pathlib import Path;"
        "import fincompress.serving.server_ray;"
        f"LocalEngine(Path({str(models['int8'])!r}), None, 2);"
        "names = ('torch', 'transformers', 'openvino', 'pandas', 'sklearn', 'ray', 'pyarrow', 'gradio', 'dvc');"
        "print([name for name in names if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@schemathesis.pytest.from_fixture("described").parametrize()
@settings(max_examples=60)
def test_whatever_is_sent_gets_an_answer_that_the_description_names(case):
    """No 5xx, statuses and bodies as described, what fits is taken and what does not is refused."""
    case.call_and_validate()


@pytest.mark.e2e
def test_a_replica_that_is_killed_under_load_loses_no_request(models, tmp_path):
    requests = [TEXTS[start : start + 8] for start in range(0, 80, 8)]
    expected = [predicted(models["int8"], texts) for texts in requests]
    stop = threading.Event()

    def client(address: Address, number: int) -> list[tuple[int, Reply]]:
        found = []
        while not stop.is_set():
            found.append((number, address.classify(requests[number])))
        return found

    options = ("--engine", "ray", "--replicas", "2", "--threads", "1")
    with serving_process(models["int8"], tmp_path / "log", *options) as (process, address):
        replicas = [child for child in psutil.Process(process.pid).children(recursive=True) if _is_replica(child)]
        assert len(replicas) == 2
        with ThreadPoolExecutor(6) as clients:
            futures = [clients.submit(client, address, number) for number in range(6)]
            until(lambda: value(address, "requests_total", status="200") > 50)
            killed = value(address, "requests_total", status="200")
            replicas[0].kill()
            until(lambda: value(address, "requests_total", status="200") > killed + 200)
            stop.set()
            found = [pair for future in futures for pair in future.result()]
        statuses = Counter(answer.status for _, answer in found)
        assert set(statuses) <= {200, 503} and statuses[200] > 250, statuses
        assert all(answer.json()["predictions"] == expected[n] for n, answer in found if answer.status == 200)
        for status, count in statuses.items():
            assert value(address, "requests_total", status=str(status)) == count
        assert value(address, "retries_total") + statuses[503] > 0, "work was lost when it died"
        assert address.get("/readyz").status == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=60) == 0


def _is_replica(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("ray::ServeReplica")
    except psutil.Error:
        return False
