"""The queue between requests and the model: bounded, fair, and joined into batches where that changes no answer."""

import asyncio
import logging
import math
import traceback
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from fincompress.serving.classifier import Prediction
from fincompress.serving.server_limits import Limits, Rejected
from fincompress.serving.server_metrics import Metrics

BATCH = 32
"""Texts of a turn, as many as `predict` classifies together."""
_LOG = logging.getLogger(__name__)


class Unavailable(Exception):
    """No replica could be reached."""


class Engine(Protocol):
    """What classifies texts: the model in this process, or its replicas elsewhere."""

    joins: bool  # whether an answer stays the same, bit for bit, when texts of several requests are classified together
    calls: int  # at once

    @property
    def ready(self) -> bool:
        """Whether it can be asked now."""
        ...

    async def classify(self, texts: list[str]) -> list[Prediction]:
        """Predictions in the same order; the event loop stays free meanwhile.

        Raises:
            Unavailable: no replica could be reached.
        """
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...


@dataclass(eq=False)
class _Job:
    """A request's texts, and the predictions found so far."""

    texts: list[str]
    answer: asyncio.Future
    taken: int = 0  # texts that an engine has or has had
    missing: int = 0
    predictions: list[Prediction | None] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.missing, self.predictions = len(self.texts), [None] * len(self.texts)

    @property
    def waiting(self) -> int:
        return 0 if self.answer.done() else len(self.texts) - self.taken


@dataclass(frozen=True)
class _Part:
    """Texts `start` to `end` of a job."""

    job: _Job
    start: int
    end: int


class Queue:
    """Takes texts in up to a limit and hands them to an engine, of each request at most `BATCH` a turn.

    A long request therefore does not hold up the short ones behind it. An engine whose answers depend on what is
    classified together gets each request alone and whole.
    """

    def __init__(self, engine: Engine, limits: Limits, metrics: Metrics):
        self._engine, self._limits, self._metrics = engine, limits, metrics
        self._jobs: deque[_Job] = deque()
        self._wake = asyncio.Event()
        self._workers: list[asyncio.Task] = []
        self._seconds_a_text = 0.0  # recently
        metrics.watch_queue(lambda: self.depth)

    @property
    def depth(self) -> int:
        """Texts that wait."""
        return sum(job.waiting for job in self._jobs)

    @property
    def working(self) -> bool:
        """Whether texts are being taken from the queue."""
        return bool(self._workers) and not any(worker.done() for worker in self._workers)

    def start(self) -> None:
        """Begin to work, in the running event loop."""
        self._workers = [asyncio.create_task(self._work()) for _ in range(self._engine.calls)]

    async def stop(self) -> None:
        """End the work; requests that still wait are not answered."""
        for worker in self._workers:
            worker.cancel()
        await asyncio.gather(*self._workers, return_exceptions=True)
        self._engine.close()

    def check_room(self, texts: int = 1) -> None:
        """Raise what says when to come again, if that many texts more would be too many (429)."""
        depth = self.depth
        if depth + texts > self._limits.queue:
            raise Rejected(
                429, f"{depth} texts are waiting, and no more than {self._limits.queue} may", self._come_again()
            )

    def _come_again(self) -> int:
        """Seconds until the queue will be worked off at the recent rate, at least 1."""
        return max(1, math.ceil(self.depth * self._seconds_a_text))

    async def ask(self, texts: list[str]) -> list[Prediction]:
        """The predictions of texts, in order.

        Raises:
            Rejected: there is no room (429), no answer in time (503 if it waited all the while, else 504), no replica
                (503), or the model failed (500).
        """
        self.check_room(len(texts))
        job = _Job(texts, asyncio.get_running_loop().create_future())
        self._jobs.append(job)
        self._wake.set()
        try:
            async with asyncio.timeout(self._limits.answer_s):
                return await job.answer
        except TimeoutError:
            late = f"no answer within {self._limits.answer_s:g} s"
            if job.taken:
                raise Rejected(504, late) from None
            raise Rejected(503, f"{late}: other texts were first", self._come_again()) from None
        except Unavailable as error:
            raise Rejected(503, str(error), 1) from None

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            while not (parts := self._turn()):
                self._wake.clear()
                await self._wake.wait()
            texts = [text for part in parts for text in part.job.texts[part.start : part.end]]
            start = loop.time()
            try:
                predictions = await self._engine.classify(texts)
            except Exception as error:
                self._fail(parts, error)
                continue
            recent = (loop.time() - start) / len(texts) / self._engine.calls
            self._seconds_a_text = 0.8 * (self._seconds_a_text or recent) + 0.2 * recent
            self._metrics.texts.inc(len(texts))
            self._hand_out(parts, predictions)

    def _turn(self) -> list[_Part]:
        """The next texts: this call's share of the front, up to `BATCH`; what is left of a job goes to the back."""
        parts: list[_Part] = []
        room = min(BATCH, math.ceil(self.depth / self._engine.calls))
        for _ in range(len(self._jobs)):
            job = self._jobs.popleft()
            if not job.waiting:  # its time is up
                continue
            size = min(room, job.waiting) if self._engine.joins else job.waiting
            parts.append(_Part(job, job.taken, job.taken + size))
            job.taken += size
            room -= size
            if job.waiting:
                self._jobs.append(job)
            if room <= 0 or not self._engine.joins:
                break
        return parts

    @staticmethod
    def _hand_out(parts: list[_Part], predictions: list[Prediction]) -> None:
        first = 0
        for part in parts:
            job, size = part.job, part.end - part.start
            job.predictions[part.start : part.end] = predictions[first : first + size]
            job.missing -= size
            first += size
            if not job.missing and not job.answer.done():
                job.answer.set_result(job.predictions)

    @staticmethod
    def _fail(parts: list[_Part], error: Exception) -> None:
        """Fail the jobs. The log says where, but not with which words, as these could repeat a text."""
        if not isinstance(error, Unavailable):
            where = "".join(traceback.format_tb(error.__traceback__))
            _LOG.error("classification failed with %s:\n%s", type(error).__name__, where)
            error = Rejected(500, "the model failed; the server's log says where")
        for part in parts:
            if not part.job.answer.done():
                part.job.answer.set_exception(error)
