"""How much memory a process has taken, and how much the machine has left."""

from pathlib import Path


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
