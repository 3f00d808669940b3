"""The HTTP application: texts in, labels and probabilities out, with health, metrics and its own description."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import FastAPI, Request, Response
from pydantic import BaseModel

from fincompress.serving.classifier import Prediction
from fincompress.serving.server_limits import JSON, Limits, Rejected, parse, read_body, request_model
from fincompress.serving.server_metrics import CONTENT_TYPE, Metrics
from fincompress.serving.server_queue import Engine, Queue

REJECTIONS = {
    400: "The connection was closed before the body was there.",
    408: "The body did not arrive in time.",
    413: "The body is too long.",
    415: "The body is not JSON by its Content-Type.",
    422: "The body is not what the schema says.",
    429: "Too much waits; Retry-After says when to come again.",
    500: "The model failed.",
    503: "No answer in time because others were first, or no replica.",
    504: "No answer in time.",
}


class ModelInfo(BaseModel):
    """The model that answered."""

    name: str
    version: str


class Answer(BaseModel):
    """The answer for one text."""

    label: str
    probabilities: dict[str, float]


class Answers(BaseModel):
    """The answers for all texts of a request, in their order."""

    model: ModelInfo
    predictions: list[Answer]


class Problem(BaseModel):
    """Why there is no answer, in one line."""

    detail: str


class Health(BaseModel):
    """How the server is."""

    status: str


@dataclass(frozen=True)
class About:
    """What a server says of its model."""

    name: str
    version: str  # of its weights


def create_app(engine: Engine, about: About, limits: Limits, metrics: Metrics | None = None) -> FastAPI:
    """The application that answers with `engine`, which it closes when it ends.

    No text and no part of one is logged or repeated in an error.
    """
    metrics = metrics or Metrics(about.name, about.version)
    queue = Queue(engine, limits, metrics)
    body_model = request_model(limits)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        queue.start()
        yield
        await queue.stop()

    app = FastAPI(
        title=f"FinCompress: {about.name}",
        version=about.version,
        description="Labels of texts, and their probabilities.",
        lifespan=lifespan,
    )
    problems: dict[int | str, dict[str, Any]] = {
        status: {"model": Problem, "description": words} for status, words in REJECTIONS.items()
    }
    body = {"required": True, "content": {JSON: {"schema": body_model.model_json_schema()}}}
    open_requests = 0

    @app.post("/v1/classify", response_model=Answers, responses=problems, openapi_extra={"requestBody": body})
    async def classify(request: Request) -> Response:
        """Classify one text or several."""
        nonlocal open_requests
        with metrics.request():
            if open_requests >= limits.in_flight:
                raise Rejected(429, f"{open_requests} requests are open, and no more than {limits.in_flight} may be", 1)
            queue.check_room()
            open_requests += 1
            try:
                texts = parse(await read_body(request, limits), body_model)
                return _answered(await queue.ask(texts), about)
            finally:
                open_requests -= 1

    @app.get("/healthz", response_model=Health, responses={503: problems[503]})
    async def healthz() -> Health:
        """Whether the process works; answered while texts are classified too."""
        if not queue.working:
            raise Rejected(503, "texts are no longer taken from the queue")
        return Health(status="ok")

    @app.get("/readyz", response_model=Health, responses={503: problems[503]})
    async def readyz() -> Health:
        """Whether requests would be answered."""
        if not (queue.working and engine.ready):
            raise Rejected(503, "no model is ready")
        return Health(status="ready")

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    async def read_metrics() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.exposition(), media_type=CONTENT_TYPE)

    return app


def _answered(predictions: list[Prediction], about: About) -> Response:
    """An `Answers`, written without pydantic: floats as Python writes them read back bit for bit."""
    answers = [{"label": one.label, "probabilities": one.probabilities} for one in predictions]
    content = {"model": {"name": about.name, "version": about.version}, "predictions": answers}
    return Response(json.dumps(content, ensure_ascii=False).encode(), media_type=JSON)
