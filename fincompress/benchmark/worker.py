"""One variant in a process of its own, answering the benchmark's requests over a pipe.

Started as `python -m fincompress.benchmark.worker FD` by `workers.Worker`. It imports no more than its runtime
needs, so that its peak memory is the variant's own. Requests are (name, arguments); every one gets one answer.
"""

import os
import sys
import time
import traceback
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from fincompress.core.errors import InputError
from fincompress.core.memory import peak_rss_mb
from fincompress.runtimes.base import Classifier, predict_logits
from fincompress.runtimes.registry import open_classifier

SPINNING_SECONDS = 0.08


def time_single(classifier: Classifier, texts: list[str], pad_to: int | None) -> dict[str, list[float]]:
    """Milliseconds for each text on its own.

    Returns:
        `ms`, from the text to the name of its label; and of that, `encode_ms` to tokenise and `forward_ms` to classify.
    """
    times: dict[str, list[float]] = {"ms": [], "encode_ms": [], "forward_ms": []}
    for text in texts:
        start = time.perf_counter()
        inputs = classifier.encode([text], pad_to)
        encoded = time.perf_counter()
        logits = classifier.logits(inputs)
        classified = time.perf_counter()
        _ = classifier.labels[int(logits[0].argmax())]
        end = time.perf_counter()
        for key, seconds in zip(times, (end - start, encoded - start, classified - encoded), strict=True):
            times[key].append(seconds * 1e3)
    return times


def time_batches(classifier: Classifier, texts: list[str], size: int) -> float:
    """Sentences a second in batches of `size` as `predict_logits` feeds them: sorted by length, and tokenised.

    Before that, texts are classified untimed for `SPINNING_SECONDS`: threads of an earlier request go on spinning for a
    while (ONNX Runtime's for some 50 ms), on cores that this one needs.
    """
    start = time.perf_counter()
    while time.perf_counter() - start < SPINNING_SECONDS:
        predict_logits(classifier, texts[:size], size)
    start = time.perf_counter()
    predict_logits(classifier, texts, size)
    return len(texts) / (time.perf_counter() - start)


def _answer(classifier: Classifier, name: str, arguments: tuple) -> Any:
    if name == "logits":
        return predict_logits(classifier, *arguments)
    if name == "labels":
        return classifier.labels
    if name == "single":
        return time_single(classifier, *arguments)
    if name == "batches":
        return time_batches(classifier, *arguments)
    if name == "peak_rss_mb":
        return peak_rss_mb()
    raise ValueError(f"unknown request {name!r}")


def main() -> None:
    connection = Connection(int(sys.argv[1]))
    try:
        folder, runtime, threads = connection.recv()
        classifier = open_classifier(Path(folder), runtime, threads)
        connection.send(("ok", None))
        while (request := connection.recv()) is not None:
            connection.send(("ok", _answer(classifier, *request)))
    except (EOFError, BrokenPipeError, KeyboardInterrupt):
        os._exit(0)  # the parent has gone, and nothing is left to write: torch takes a while to be taken down
    except InputError as error:
        connection.send(("refused", str(error)))
    except Exception:
        connection.send(("error", traceback.format_exc()))


if __name__ == "__main__":
    main()
