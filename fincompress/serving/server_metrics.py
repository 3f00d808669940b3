"""What the server counts, as Prometheus reads it."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fastapi import HTTPException
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Bounds of the latency histogram."""
CONTENT_TYPE = CONTENT_TYPE_LATEST


class Metrics:
    """The counters of one server, in a registry of their own."""

    def __init__(self, model: str, version: str):
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        about = Gauge("fincompress_model_info", "The model that answers.", ["name", "version"], registry=registry)
        about.labels(model, version).set(1)
        self._requests = Counter("fincompress_requests", "Requests by status.", ["status"], registry=registry)
        self._seconds = Histogram(
            "fincompress_request_seconds", "From a request to its answer.", buckets=SECONDS, registry=registry
        )
        self.texts = Counter("fincompress_texts", "Texts that were classified.", registry=registry)
        self.retries = Counter(
            "fincompress_retries", "Batches that were sent again because a replica was lost.", registry=registry
        )
        self.in_flight = Gauge("fincompress_requests_in_flight", "Requests not yet answered.", registry=registry)
        self._waiting = Gauge("fincompress_queue_texts", "Texts that wait.", registry=registry)

    def watch_queue(self, depth: Callable[[], int]) -> None:
        """Ask `depth` for the texts that wait, whenever the metrics are read."""
        self._waiting.set_function(depth)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Count a request by the status that the block ends with, and time it if it is answered (200)."""
        start, status = time.perf_counter(), 500
        self.in_flight.inc()
        try:
            yield
            status = 200
            self._seconds.observe(time.perf_counter() - start)
        except HTTPException as rejected:
            status = rejected.status_code
            raise
        finally:
            self.in_flight.dec()
            self._requests.labels(str(status)).inc()

    def exposition(self) -> bytes:
        """All values in Prometheus' text format."""
        return generate_latest(self._registry)
