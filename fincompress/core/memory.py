"""How much memory a process has taken, and how much is left for others."""

from collections.abc import Iterator
from pathlib import Path

from fincompress.core.control_groups import control_groups

_FILES = (  # in version 2 and in 1: the limit, the usage, and the line of memory.stat that can be freed
    ("memory.max", "memory.current", "inactive_file"),
    ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def peak_rss_mb() -> float:
    """This process's largest resident memory so far, in MB.

    Linux's VmHWM, because `getrusage` there also counts the parent's memory from before the exec.
    """
    status = Path("/proc/self/status")
    if status.is_file():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6  # bytes on macOS


def available_memory_mb(root: Path = Path("/")) -> float:
    """Memory in MB that can be taken without swapping: what the machine has left, or a container's limit if lower.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    import psutil

    return min([psutil.virtual_memory().available / 1e6, *_room_in_control_groups(root)])


def _room_in_control_groups(root: Path) -> Iterator[float]:
    """MB left below the limit of each control group that this process is in, as far as they can be seen."""
    for group in control_groups("memory", root):
        for limit, usage, freeable in _FILES:
            if (group / limit).is_file() and (group / limit).read_text().strip() != "max":
                stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
                used = int((group / usage).read_text()) - int(stat.get(freeable, 0))
                yield (int((group / limit).read_text()) - used) / 1e6
