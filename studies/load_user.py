"""What locust does in the load test (`studies.load`): posts prepared requests and compares each answer bit for bit.

The environment names the file of prepared requests (LOAD_REQUESTS), the file for the outcome (LOAD_OUTCOME) and, where
the load is not as much as the server takes, the requests a second of each user (LOAD_RATE).
"""

import itertools
import json
import os
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

from locust import FastHttpUser, events, task

REQUESTS = json.loads(Path(os.environ["LOAD_REQUESTS"]).read_text(encoding="utf-8"))["requests"]
RATE = float(os.environ.get("LOAD_RATE", 0))
statuses: Counter[int] = Counter()
outcome: dict[str, Any] = {"statuses": statuses, "texts": 0, "wrong": 0, "without_retry_after": 0, "ms": []}
times: dict[str, float] = {}


class Client(FastHttpUser):
    """Sends one prepared request after another, from a place of its own in the list.

    With a rate, requests are sent at random times, whether or not the last answer came late. At even distances, users
    would end up sending at the same moment after any pause that they all wait for.
    """

    network_timeout = connection_timeout = 60.0
    _numbers = itertools.count()

    def on_start(self) -> None:
        start = next(self._numbers) * 7919 % len(REQUESTS)
        self._requests = itertools.cycle([*REQUESTS[start:], *REQUESTS[:start]])
        self._random = random.Random(start)
        self._due = time.perf_counter()
        if RATE:
            time.sleep(self.wait_time())

    def wait_time(self) -> float:
        if not RATE:
            return 0
        self._due += self._random.expovariate(RATE)
        return max(0.0, self._due - time.perf_counter())

    @task
    def classify(self) -> None:
        one = next(self._requests)
        times.setdefault("start", time.perf_counter())
        with self.client.post("/v1/classify", json={"texts": one["texts"]}, catch_response=True) as response:
            times["end"] = time.perf_counter()
            statuses[response.status_code] += 1
            if response.status_code == 200:
                outcome["ms"].append(response.request_meta["response_time"])
                outcome["texts"] += len(one["texts"])
                outcome["wrong"] += response.json()["predictions"] != one["predictions"]
            elif response.status_code == 429:
                outcome["without_retry_after"] += "retry-after" not in response.headers
                response.success()  # to be shed is what is looked for


@events.quitting.add_listener
def write(environment: Any, **_: Any) -> None:
    """Leave the outcome for the load test."""
    outcome["seconds"] = times["end"] - times["start"]  # until the last answer, after no more was asked
    Path(os.environ["LOAD_OUTCOME"]).write_text(json.dumps(outcome), encoding="utf-8")
