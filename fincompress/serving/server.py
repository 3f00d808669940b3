"""Serve a model over HTTP: the model in this process or its replicas on Ray, behind the same application."""

import asyncio
import signal
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import uvicorn

from fincompress.core.errors import InputError
from fincompress.core.threads import usable_cores
from fincompress.runtimes.registry import runtime_of, weights_digest
from fincompress.serving.classifier import Prediction, load_classifier
from fincompress.serving.server_app import About, create_app
from fincompress.serving.server_limits import Limits
from fincompress.serving.server_metrics import Metrics
from fincompress.serving.server_queue import Engine

DIGITS = 12
"""Of a digest of weights, as the version of a model."""
_WARM_UP = "The first call of a model takes longer than those that follow."
_BACKLOG = 2048
_GRACE_S = 5  # beyond the time that an answer may take, before open requests are given up


class LocalEngine:
    """The model in this process: several texts at once with a thread each where they are fed alone, else one call."""

    ready = True

    def __init__(self, model: Path, runtime: str | None, threads: int | None):
        threads = threads or usable_cores()
        classifier = load_classifier(model, runtime, 1)
        self.joins = classifier.feeds_one_by_one
        self.calls = threads if self.joins else 1
        if threads > self.calls:
            classifier = load_classifier(model, runtime, threads)
        self._idle = [classifier, *(classifier.twin() for _ in range(self.calls - 1))]
        self._threads = ThreadPoolExecutor(self.calls, "model")
        for one in self._idle:
            one(_WARM_UP)

    async def classify(self, texts: list[str]) -> list[Prediction]:
        classifier = self._idle.pop()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._threads, classifier, texts)
        finally:
            self._idle.append(classifier)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


@dataclass(frozen=True)
class Service:
    """What to serve, and how."""

    model: Path
    runtime: str | None = None  # None takes the one that the folder is for
    threads: int | None = None  # of each replica; None divides this machine's cores among them
    name: str | None = None  # None takes the folder's
    engine: Literal["local", "ray"] = "local"
    replicas: int = 1


def about(service: Service) -> About:
    """The model's name, and the beginning of the digest of its weights (as metrics/about/models.json holds it)."""
    folder = service.model.resolve()
    version = weights_digest(folder, service.runtime or runtime_of(service.model))
    return About(service.name or folder.name, version[:DIGITS])


def serve(service: Service, limits: Limits, host: str, port: int) -> None:
    """Answer requests until SIGTERM or Ctrl-C; then answer those that are open, take no others, and return.

    Raises:
        InputError: the address is taken, or the model cannot be loaded.
    """
    if service.replicas > 1 and service.engine == "local":
        raise InputError("--replicas: more than one needs --engine ray; alone, raise --threads instead")
    said = about(service)
    with _listen(host, port) as listener:
        metrics = Metrics(said.name, said.version)
        engine = _engine(service, limits, metrics)
        config = uvicorn.Config(
            create_app(engine, said, limits, metrics),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=round(limits.read_s + limits.answer_s) + _GRACE_S,
        )
        server = uvicorn.Server(config)
        for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises again, after all has ended, what it has caught
            signal.signal(number, server.handle_exit)
        listener.listen(_BACKLOG)  # so that who connects before the server runs waits for it
        where = f"http://{f'[{host}]' if ':' in host else host}:{listener.getsockname()[1]}"
        print(
            f"{said.name} (version {said.version}) on {where}, described on {where}/docs", file=sys.stderr, flush=True
        )
        server.run(sockets=[listener])


def _engine(service: Service, limits: Limits, metrics: Metrics) -> Engine:
    if service.engine == "local":
        return LocalEngine(service.model, service.runtime, service.threads)
    from fincompress.serving.server_ray import RayEngine

    return RayEngine(service.model, service.runtime, service.threads, service.replicas, limits.answer_s, metrics)


def _listen(host: str, port: int) -> socket.socket:
    """A socket that is bound but does not listen yet: a port that is taken is known before a model is loaded."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError as error:
        raise InputError(f"--host {host} --port {port}: {error.strerror}; name another") from None
    return listener
