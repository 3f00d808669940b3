"""How much `fincompress serve` takes: `make load`, or `python -m studies.load`, after `dvc repro`, on an idle machine.

A server in a process of its own is loaded by locust on the same machine: with as much as it takes, with half as much in
single texts, and for minutes with three times as much. Every answer is compared, bit for bit, with that of `predict`.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np
import psutil

from fincompress.benchmark.machine import hardware
from fincompress.core.errors import InputError
from fincompress.core.files import write_json
from fincompress.data.sources import read_embedded
from fincompress.serving.classifier import TextClassifier, load_classifier
from studies.output import add_output_options, cpu_of, publish

BATCH = 32  # texts of a request, but for the single ones
TEXTS = 2048  # of the embedded corpus
CLIENTS = 4  # that send without a pause
SINGLE_CLIENTS = 32  # that send single texts at random times
CALLS = 300  # single texts by which the model's own latency is known
OVER = 3  # times the load that the server takes
SETTLED_S = 60.0  # of overload, after which memory is expected to stay the same


@dataclass(frozen=True)
class Load:
    """What locust saw of one load."""

    seconds: float
    statuses: dict[str, int]
    texts: int  # that were answered
    wrong: int  # answers that are not those of `predict`
    without_retry_after: int
    ms: list[float] = field(repr=False)  # of the requests that were answered

    @property
    def per_s(self) -> float:
        """Texts a second that were answered."""
        return self.texts / self.seconds

    @property
    def lost(self) -> int:
        """Requests that were neither answered nor shed."""
        return sum(count for status, count in self.statuses.items() if status not in ("200", "429"))

    def percentile(self, q: float) -> float:
        """Of the milliseconds from a request to its answer."""
        return float(np.percentile(self.ms, q)) if self.ms else float("nan")


@dataclass(frozen=True)
class Watched:
    """What was seen of a server while it was loaded, once a second."""

    rss_mb: list[float]
    health_ms: list[float]  # of /healthz


@dataclass(frozen=True)
class Report:
    """All that is measured."""

    model: str
    predict_per_s: float  # of `predict`, before and after
    model_p50_ms: float
    full: Load
    half: Load
    over: Load
    watched: Watched

    @property
    def growth_mb(self) -> float:
        """Memory at the end of the overload over that after its first minute (or fifth, if it is short)."""
        samples = self.watched.rss_mb
        first = min(round(SETTLED_S), len(samples) // 5)
        return median(samples[-10:]) - median(samples[first : first + 10])


def requests(classifier: TextClassifier, texts: list[str], size: int) -> list[dict]:
    """Texts in requests of a size, each with what `predict` answers."""
    parts = [texts[start : start + size] for start in range(0, len(texts), size)]
    return [
        {
            "texts": part,
            "predictions": [{"label": one.label, "probabilities": one.probabilities} for one in classifier(part)],
        }
        for part in parts
    ]


def throughput(classifier: TextClassifier, texts: list[str]) -> float:
    """Texts a second of `predict`, the median of three rounds."""
    rates = []
    for _ in range(3):
        start = time.perf_counter()
        classifier(texts)
        rates.append(len(texts) / (time.perf_counter() - start))
    return median(rates)


@contextmanager
def server(model: Path, threads: int, log: Path) -> Iterator[tuple[psutil.Process, str]]:
    """`fincompress serve` on a free port: its process and its address."""
    command = [sys.executable, "-m", "fincompress", "serve", "--model", str(model), "--threads", str(threads)]
    with log.open("w") as output:
        process = subprocess.Popen([*command, "--port", "0"], stdout=output, stderr=output)
    try:
        while not (said := re.search(r"on (http://[\d.:]+),", log.read_text())):
            if process.poll() is not None:
                raise InputError(log.read_text().strip().removeprefix("error: "))
            time.sleep(0.1)
        yield psutil.Process(process.pid), said[1]
    finally:
        process.terminate()
        process.wait()


def load(address: str, prepared: list[dict], seconds: float, users: int, per_s: float | None, folder: Path) -> Load:
    """Load a server for some seconds with prepared requests.

    Args:
        users: clients, each of which waits for its answer before it asks again.
        per_s: requests a second of all of them; None for as many as they can.

    Raises:
        InputError: locust is not installed.
    """
    write_json(folder / "requests.json", {"requests": prepared})
    environment = {"LOAD_REQUESTS": str(folder / "requests.json"), "LOAD_OUTCOME": str(folder / "outcome.json")}
    if per_s is not None:
        environment["LOAD_RATE"] = str(per_s / users)
    command = [sys.executable, "-m", "locust", "-f", str(Path(__file__).with_name("load_user.py")), "--headless"]
    command += ["--host", address, "--users", str(users), "--spawn-rate", str(users), "--stop-timeout", "60"]
    command += ["--run-time", f"{round(seconds)}s", "--only-summary", "--exit-code-on-error", "0"]
    ended = subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)
    if "No module named locust" in ended.stderr:
        raise InputError("locust is not installed: pip install -r requirements-load.txt")
    if ended.returncode:
        raise RuntimeError(f"locust failed:\n{ended.stderr[-2000:]}")
    return Load(**json.loads((folder / "outcome.json").read_text(encoding="utf-8")))


@contextmanager
def watching(process: psutil.Process, address: str) -> Iterator[Watched]:
    """Look at the server's memory and health, once a second, until the block ends."""
    seen, done = Watched([], []), threading.Event()

    def look() -> None:
        while not done.wait(1.0):
            seen.rss_mb.append(process.memory_info().rss / 1e6)
            start = time.perf_counter()
            urllib.request.urlopen(f"{address}/healthz", timeout=30).close()
            seen.health_ms.append((time.perf_counter() - start) * 1e3)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


def measure(model: Path, threads: int, seconds: float, minutes: float) -> Report:
    """Load a server in three ways; `predict` is timed before and after it, because machines drift."""
    texts = read_embedded()["text"].sample(TEXTS, random_state=0).tolist()
    classifier = load_classifier(model, threads=threads)
    batches, singles = requests(classifier, texts, BATCH), requests(classifier, texts, 1)
    rates, p50 = [throughput(classifier, texts)], classifier.latency_ms(texts[:CALLS])
    with tempfile.TemporaryDirectory() as name, server(model, threads, Path(name) / "log") as (process, address):
        folder = Path(name)
        full = load(address, batches, seconds, CLIENTS, None, folder)
        rates.append(throughput(classifier, texts))
        half = load(address, singles, seconds, SINGLE_CLIENTS, full.per_s / 2, folder)
        per_s = OVER * full.per_s / BATCH
        with watching(process, address) as watched:
            over = load(address, batches, 60 * minutes, round(2 * per_s), per_s, folder)
    return Report(model.name, median(rates), p50, full, half, over, watched)


def page(report: Report, machine: dict, threads: int, note: str | None, command: str) -> str:
    """What was measured as a Markdown page."""
    full, half, over = report.full, report.half, report.over
    shed, asked = over.statuses.get("429", 0), sum(over.statuses.values())
    wrong, lost = (sum(getattr(one, key) for one in (full, half, over)) for key in ("wrong", "lost"))
    every = sum(sum(one.statuses.values()) for one in (full, half, over))
    health = np.percentile(report.watched.health_ms, [50, 99])
    rss, ratio = report.watched.rss_mb, half.percentile(99) / report.model_p50_ms
    rows = [
        ("texts a second, `predict`", f"{report.predict_per_s:,.0f}", ""),
        (
            f"texts a second, server, {CLIENTS} clients with {BATCH} texts a request",
            f"{full.per_s:,.0f}, {full.per_s / report.predict_per_s:.0%} of `predict`'s",
            "≥ 80 %",
        ),
        ("one text, the model alone, p50", f"{report.model_p50_ms:.2f} ms", ""),
        (
            f"one text a request at half that load ({half.per_s:,.0f} a second): p50, p99",
            f"{half.percentile(50):.1f} ms, {half.percentile(99):.1f} ms: p99 is {ratio:.1f} × the model's p50",
            "≤ 10 ×",
        ),
        (
            f"{OVER} times the load for {over.seconds / 60:.1f} minutes: answered, shed with 429",
            f"{over.statuses.get('200', 0):,} and {shed:,} of {asked:,} requests; {over.per_s:,.0f} texts a second",
            "sheds, keeps answering",
        ),
        (
            "meanwhile: p50 and p99 of what is answered",
            f"{over.percentile(50) / 1e3:.2f} s, {over.percentile(99) / 1e3:.2f} s",
            "",
        ),
        ("meanwhile: p50 and p99 of /healthz", f"{health[0]:.1f} ms, {health[1]:.1f} ms", ""),
        (
            "meanwhile: memory",
            f"{rss[0]:.0f} MB at first, {max(rss):.0f} MB at most; {report.growth_mb:+.1f} MB after its first minute",
            "flat",
        ),
        ("429 without Retry-After", str(over.without_retry_after), "0"),
        (f"wrong and lost answers, of {every:,}", f"{wrong} and {lost}", "0"),
    ]
    cpu = f"{cpu_of(machine)}, {threads} threads"
    lines = [
        "# How much the server takes",
        "",
        f"The HTTP server with `{report.model}` in one process, loaded by [locust](https://locust.io) on the same",
        "machine, which therefore shares its cores with the clients. The texts are",
        f"{TEXTS:,} sentences of the embedded corpus. Every answer is compared, bit for bit, with that of `predict`.",
        "Single texts are sent at random times.",
        "",
        "| | measured | asked |",
        "|---|---|---|",
        *(f"| {' | '.join(row)} |" for row in rows),
        "",
        f"{cpu}, {machine['memory_gb']} GB.{f' {note}' if note else ''}",
        "",
        f"Made by `{command}`.",
        "",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="How much the server takes, in comparison with predict.")
    parser.add_argument("--model", type=Path, default=Path("models/ptq/ikd_ort_int8"))
    parser.add_argument("--threads", type=int, default=2, help="of the server and of predict")
    parser.add_argument("--seconds", type=float, default=30, help="of the first two loads")
    parser.add_argument("--minutes", type=float, default=10, help="of three times the load")
    parser.add_argument("--note", help="a sentence about the machine, for the page")
    add_output_options(parser)
    options = parser.parse_args()
    command = shlex.join(["python", "-m", "studies.load", *sys.argv[1:]])
    if options.dry_run:
        print(f"would load a server of {options.model}, for {options.write or 'standard output'}")
        return
    try:
        report = measure(options.model, options.threads, options.seconds, options.minutes)
    except InputError as error:
        parser.exit(2, f"error: {error}\n")
    publish(page(report, hardware(), options.threads, options.note, command), options.write)


if __name__ == "__main__":
    main()
