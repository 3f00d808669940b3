"""The machine that latencies are measured on: what it is, what it has room for, and whether others are using it."""

import importlib.metadata
import platform
import time
from dataclasses import dataclass
from pathlib import Path

import psutil

from fincompress.core.runtimes import RUNTIMES

VECTOR_INSTRUCTIONS = ("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8")  # the last three: int8 dot products
LIBRARIES = ("torch", "transformers", "tokenizers", "onnxruntime", "openvino", "nncf", "scikit-learn", "numpy")
SPARED = 0.1  # of the free memory, which is left to the system


@dataclass(frozen=True)
class Seen:
    """What went on beside a worker over a span of time."""

    load: float  # mean share of all cores that others used: neither this process nor the worker
    steal: float  # mean share of all cores that a virtual machine's host gave to others
    swap: int  # bytes swapped in or out, of any process

    def cause(self, threshold: float) -> str:
        """What disturbed the span: `load`, `steal` or `swap`; empty if nothing did.

        Args:
            threshold: the share of the machine that load or steal may take.
        """
        found = {"swap": self.swap > 0, "steal": self.steal > threshold, "load": self.load > threshold}
        return next((name for name, true in found.items() if true), "")


class Watch:
    """Looks at what goes on beside a worker, from its making on."""

    def __init__(self, pid: int):
        self._ours = [psutil.Process(pid), psutil.Process()]
        self._start = self._now()

    def seen(self) -> Seen:
        """What has gone on since."""
        wall, busy, ours, steal, swap = (now - then for now, then in zip(self._now(), self._start, strict=True))
        available = wall * (psutil.cpu_count() or 1)
        return Seen(max(0.0, busy - ours) / available, steal / available, int(swap))

    def _now(self) -> tuple[float, float, float, float, float]:
        system, swap = psutil.cpu_times(), psutil.swap_memory()
        steal = getattr(system, "steal", 0.0)
        idle = system.idle + getattr(system, "iowait", 0.0)
        guest = getattr(system, "guest", 0.0) + getattr(system, "guest_nice", 0.0)  # already in user and nice
        ours = sum(times.user + times.system for times in (process.cpu_times() for process in self._ours))
        return time.perf_counter(), sum(system) - idle - guest - steal, ours, steal, swap.sin + swap.sout


def vector_instructions() -> list[str]:
    """Those of `VECTOR_INSTRUCTIONS` that the processor has."""
    return [name for name in VECTOR_INSTRUCTIONS if name in _cpuinfo("flags").split()]


def libraries() -> dict[str, str]:
    """Library -> its version, of those that models are run with."""
    return {name: importlib.metadata.version(name) for name in LIBRARIES}


def hardware() -> dict:
    """The machine: its processor and its memory."""
    return {
        "cpu": cpu_name(),
        "vector_instructions": vector_instructions(),
        "physical_cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
    }


def environment(threads: int) -> dict:
    """The machine and the versions that latencies were measured with."""
    return {
        **hardware(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "libraries": libraries(),
    }


def rough_need_mb(runtime: str, model_bytes: int) -> float:
    """Memory that a worker takes, on the safe side: its libraries, and three times its model for all that it makes.

    With MiniLM's networks workers took 560 to 620 MB in PyTorch, 180 to 290 in ONNX Runtime, 270 to 380 in OpenVINO.
    """
    imports_torch = RUNTIMES[runtime].base == "torch"
    return (450 if imports_torch else 300) + 3 * model_bytes / 1e6


def cpu_name() -> str:
    """What the processor calls itself."""
    return _cpuinfo("model name") or platform.processor() or platform.machine()


def _cpuinfo(field: str) -> str:
    """What Linux says of the first core; empty elsewhere."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(field)), "")
