"""Replicas of a model on Ray Serve, behind the server's own application.

Ray Serve starts the replicas, spreads calls over them and replaces one that is lost. The application stays in front, in
the process that `fincompress serve` started: limits, queue, metrics and the way it ends are those of a single process,
and a batch whose replica is lost is sent to another, because classifying a text twice does no harm.
"""

import asyncio
import logging
import os
from pathlib import Path
from typing import Any

from fincompress.core.errors import InputError
from fincompress.core.extras import explained
from fincompress.core.threads import usable_cores
from fincompress.serving.classifier import Prediction, load_classifier
from fincompress.serving.folders import ray_settings
from fincompress.serving.server_metrics import Metrics
from fincompress.serving.server_queue import Unavailable

CALLS = 2
"""Batches that a replica is given at once: one to work on, and one that is there when it is done."""
_PAUSE_S = 0.1  # before a lost batch is sent again, while Ray notices what it has lost


class Replica:
    """Keeps the model loaded between calls."""

    def __init__(self, model: str, runtime: str | None, threads: int):
        self._classifier = load_classifier(model, runtime, threads)

    def __call__(self, texts: list[str]) -> list[Prediction]:
        return self._classifier(texts)

    def feeds_one_by_one(self) -> bool:
        return self._classifier.feeds_one_by_one


class RayEngine:
    """Replicas on the cluster that RAY_ADDRESS names, or on one made of this machine.

    Args:
        threads: of a replica; None divides this machine's cores among them.
        patience_s: how long a batch is sent again, if replicas are lost, before its requests get 503.

    Raises:
        InputError: Ray Serve is not installed, the replicas need more cores than there are, or none could be started.
    """

    def __init__(
        self,
        model: Path,
        runtime: str | None,
        threads: int | None,
        replicas: int,
        patience_s: float,
        metrics: Metrics,
    ):
        cores = usable_cores()
        threads = threads or max(1, cores // replicas)
        if "RAY_ADDRESS" not in os.environ and replicas * threads > cores:
            raise InputError(
                f"{replicas} replicas of {threads} threads are more than this machine's {cores} cores; lower "
                "--replicas or --threads, or name a cluster in RAY_ADDRESS"
            )
        ray_settings()
        with explained():
            import ray
            from ray import serve
        logging.getLogger("ray.serve").setLevel(logging.ERROR)  # that a replica is lost is said here, and counted
        self._ray, self._serve = ray, serve
        self._patience_s, self._metrics, self.calls = patience_s, metrics, CALLS * replicas
        self.ready, self._application = True, f"fincompress-{os.getpid()}"
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
        try:
            serve.start(proxy_location="Disabled", logging_config={"log_level": "ERROR", "enable_access_log": False})
            deployment: Any = serve.deployment(
                Replica,
                name="model",
                num_replicas=replicas,
                max_ongoing_requests=CALLS,
                health_check_period_s=1,
                ray_actor_options={"num_cpus": threads},
            )
            application = deployment.bind(str(model.resolve()), runtime, threads)
            self._handle = serve.run(application, name=self._application, route_prefix=None)
            self.joins = self._handle.feeds_one_by_one.remote().result()
        except Exception as error:
            ray.shutdown()
            raise InputError(f"{model}: no replica could be started: {error}") from error

    async def classify(self, texts: list[str]) -> list[Prediction]:
        """See `server_queue.Engine`."""
        try:
            async with asyncio.timeout(self._patience_s):
                predictions = await self._insistent(texts)
        except TimeoutError:
            self.ready = False
            raise Unavailable("no replica of the model could be reached") from None
        self.ready = True
        return predictions

    async def _insistent(self, texts: list[str]) -> list[Prediction]:
        from ray.exceptions import RayActorError
        from ray.serve.exceptions import RayServeException

        while True:
            try:
                return await self._handle.remote(texts)
            except (RayActorError, RayServeException) as error:
                self._metrics.retries.inc()
                logging.getLogger(__name__).warning("a batch is sent again after %s", type(error).__name__)
                await asyncio.sleep(_PAUSE_S)

    def close(self) -> None:
        self._serve.delete(self._application)  # and no other on that cluster
        self._ray.shutdown()
