"""A variant's process, as the benchmark sees it: started, asked over a pipe, and ended."""

import contextlib
import os
import subprocess
import sys
import time
from multiprocessing import Pipe
from typing import Any

from fincompress.core.errors import InputError
from fincompress.core.variants import Variant


class Worker:
    """A variant's process and the pipe to it."""

    def __init__(self, variant: Variant, threads: int):
        self.variant = variant
        self._connection, theirs = Pipe()
        count = str(threads)
        self._started = time.perf_counter()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "fincompress.benchmark.worker", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={**os.environ, "OMP_NUM_THREADS": count, "MKL_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count},
        )
        theirs.close()
        self._connection.send((str(variant.folder), variant.runtime, threads))

    def wait_until_loaded(self) -> None:
        """Block until the model is loaded, which must come before the first request."""
        self._receive()

    def cold_start(self, text: str) -> float:
        """Block until a process that was just started has classified a text; seconds from its start to then."""
        self.wait_until_loaded()
        self.ask("single", [text], None)
        return time.perf_counter() - self._started

    def ask(self, name: str, *arguments: Any) -> Any:
        """Send a request of `worker._answer` and block until its answer is there."""
        with contextlib.suppress(OSError):  # `_receive` says what became of the process
            self._connection.send((name, arguments))
        return self._receive()

    def hang_up(self) -> None:
        """Let the process end, without waiting for it."""
        self._connection.close()

    def close(self) -> None:
        """End the process."""
        self.hang_up()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.process.kill()

    def _receive(self):
        try:
            status, answer = self._connection.recv()
        except (EOFError, OSError):
            raise RuntimeError(f"the worker of {self.variant.name} died (exit {self.process.wait()})") from None
        if status == "refused":
            raise InputError(f"{self.variant.name}: {answer}")
        if status == "error":
            raise RuntimeError(f"the worker of {self.variant.name} failed:\n{answer}")
        return answer
