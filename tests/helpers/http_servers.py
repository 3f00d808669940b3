"""Run the HTTP server of tests, in a thread or in a process of its own, and talk to it over plain sockets."""

import http.client
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvicorn
from conftest import ROOT

JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True)
class Reply:
    """What a server answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> dict:
        return json.loads(self.body)


@dataclass(frozen=True)
class Address:
    """Where a server listens."""

    port: int

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, path: str, body=None, headers=None, **options) -> Reply:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            connection.request(method, path, body, headers or {}, **options)
            return reply(connection)
        finally:
            connection.close()

    def get(self, path: str) -> Reply:
        return self.ask("GET", path)

    def classify(self, texts) -> Reply:
        return self.ask("POST", "/v1/classify", json.dumps({"texts": texts}), JSON)


def reply(connection: http.client.HTTPConnection) -> Reply:
    """The answer to what was sent on a connection."""
    answer = connection.getresponse()
    return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())


@contextmanager
def serving_app(app) -> Iterator[Address]:
    """Serve an application in a thread until the block ends."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="error", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.01)
    try:
        yield Address(server.servers[0].sockets[0].getsockname()[1])
    finally:
        server.should_exit = True
        thread.join()


def wait_for(process: subprocess.Popen, log: Path) -> int:
    """The port that `fincompress serve` says it listens on, as soon as it does."""
    while not (said := re.search(r"on http://[\d.]+:(\d+),", log.read_text())):
        assert process.poll() is None, log.read_text()
        time.sleep(0.05)
    return int(said[1])


@contextmanager
def serving_process(model: Path, log: Path, *options: str) -> Iterator[tuple[subprocess.Popen, Address]]:
    """`fincompress serve` on a free port; standard output and error go to `log`."""
    command = [sys.executable, "-m", "fincompress", "serve", "--model", str(model), "--port", "0", *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        yield process, Address(wait_for(process, log))
    finally:
        process.terminate()
        try:
            process.wait(timeout=60)
        finally:
            process.kill()
