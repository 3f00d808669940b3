"""The image of the server, without docker: what its build copies, installs and serves, and what compose adds."""

import fnmatch
import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from http_servers import Address, wait_for
from ruamel.yaml import YAML

from fincompress.compress.ptq import to_onnx_int8
from fincompress.core.sections import PtqParams
from fincompress.networks.checkpoints import load_model, load_tokenizer, save
from fincompress.serving.classifier import load_classifier
from fincompress.serving.server_limits import Limits

LINES = re.sub(r"\\\n\s*", "", (ROOT / "docker/Dockerfile").read_text(encoding="utf-8")).splitlines()
COMPOSE = YAML(typ="safe").load(ROOT / "docker/compose.yaml")["services"]["fincompress"]
IGNORED = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
HOME = "/opt/fincompress"


def arguments(instruction: str) -> list[str]:
    """What follows each use of an instruction."""
    return [line.split(maxsplit=1)[1] for line in LINES if line.startswith(f"{instruction} ")]


def copied() -> list[str]:
    """What the build takes from the project's folder."""
    return [source for line in arguments("COPY") if "--from" not in line for source in line.split()[:-1]]


def test_what_the_build_copies_is_there_and_let_through_and_nothing_else_is():
    let_through = [line.removeprefix("!") for line in IGNORED if line.startswith("!")]
    assert IGNORED[0] == "*" and sorted(let_through) == sorted(copied())
    assert all((ROOT / name).exists() for name in copied())
    assert any(fnmatch.fnmatch("fincompress/core/__pycache__", line) for line in IGNORED)


def test_the_container_is_not_root_and_writes_nowhere_but_to_temporary_memory():
    (user,) = arguments("USER")
    assert COMPOSE["user"] == user and user.split(":")[0] == re.search(r"--uid (\d+)", arguments("RUN")[-1])[1] != "0"
    assert COMPOSE["read_only"] is True and arguments("WORKDIR")[-1] in COMPOSE["tmpfs"]
    assert COMPOSE["cap_drop"] == ["ALL"] and COMPOSE["security_opt"] == ["no-new-privileges:true"]


def test_compose_and_the_image_agree_on_port_paths_and_patience():
    entry = json.loads(arguments("ENTRYPOINT")[0])
    options = dict(zip(entry[2::2], entry[3::2], strict=True))
    assert entry[:2] == ["fincompress", "serve"] and options["--host"] == "0.0.0.0"
    port = options["--port"]
    assert arguments("EXPOSE") == [port] and f"127.0.0.1:{port}/readyz" in arguments("HEALTHCHECK")[0]
    assert [mapping.rpartition(":")[2] for mapping in COMPOSE["ports"]] == [port]
    assert COMPOSE["ports"][0].startswith("127.0.0.1:"), "other machines are let in on purpose only"
    (mounted,) = COMPOSE["volumes"]
    assert mounted["target"] == options["--model"] and mounted["read_only"] is True
    build = COMPOSE["build"]
    assert (ROOT / "docker" / build["context"]).resolve() == ROOT and (ROOT / build["dockerfile"]).is_file()
    limits = Limits()
    assert int(COMPOSE["stop_grace_period"].removesuffix("s")) > limits.read_s + limits.answer_s + 5


@pytest.fixture(scope="module")
def model(checkpoint, tmp_path_factory) -> Path:
    """A tiny int8 network for ONNX Runtime."""
    folder = tmp_path_factory.mktemp("model")
    save(load_model(str(checkpoint)), load_tokenizer(str(checkpoint), 32), folder / "torch", {})
    params = PtqParams(calibration_samples=1, keep_classifier_float=False, embedding_group=None)
    to_onnx_int8(folder / "torch", folder / "int8", params)
    return folder / "int8"


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """The environment that the Dockerfile's commands make of what it copies."""
    folder = tmp_path_factory.mktemp("image")
    for name in copied():
        take = shutil.copytree if (ROOT / name).is_dir() else shutil.copy2
        take(ROOT / name, folder / name)
    commands = [line for line in arguments("RUN") if HOME in line]
    assert len(commands) == 2 and "[serve]" in commands[1]
    for command in commands:
        words = shlex.split(command.replace(HOME, str(folder / "home")).replace("--no-cache-dir", "--quiet"))
        words[0] = sys.executable if words[0] == "python" else words[0]
        ended = subprocess.run(words, cwd=folder, capture_output=True, text=True)
        if ended.returncode and re.search("ConnectionError|NewConnectionError|timed out", ended.stderr):
            pytest.skip("no package index can be reached")
        assert ended.returncode == 0, ended.stderr
    return folder / "home"


@pytest.mark.slow
def test_the_image_has_no_torch_and_answers_as_predict_does_and_finds_itself_healthy(image, model, tmp_path):
    listed = subprocess.run([image / "bin/pip", "list", "--format", "json"], capture_output=True, text=True, check=True)
    packages = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert {"fincompress", "onnxruntime", "fastapi", "uvicorn"} <= packages
    assert not packages & {"torch", "transformers", "openvino", "pandas", "dvc", "gradio", "ray", "pyarrow"}
    entry = [word.replace("/model", str(model)) for word in json.loads(arguments("ENTRYPOINT")[0])]
    entry[0], entry[-1] = str(image / "bin" / entry[0]), "0"  # a free port
    environment = {"PATH": f"{image / 'bin'}:/usr/bin:/bin", "PYTHONDONTWRITEBYTECODE": "1"}  # no home, no PYTHONPATH
    started = {"cwd": tmp_path, "env": environment}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen(entry, **started, stdout=log, stderr=log)
    try:
        port = wait_for(process, tmp_path / "log")
        check = json.loads(re.search(r"CMD (.*)", arguments("HEALTHCHECK")[0])[1].replace("8000", str(port)))
        check[0] = str(image / "bin" / check[0])
        assert subprocess.run(check, **started).returncode == 0
        (answer,) = Address(port).classify("Profit rose.").json()["predictions"]
    finally:
        process.terminate()
        assert process.wait(timeout=60) == 0
    assert subprocess.run(check, **started, capture_output=True).returncode != 0, "nothing runs any more"
    expected = load_classifier(model)("Profit rose.")
    assert answer == {"label": expected.label, "probabilities": expected.probabilities}
    assert [path.name for path in tmp_path.iterdir()] == ["log"]
