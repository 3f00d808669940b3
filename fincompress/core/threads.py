"""How many threads a process should use: as many as the cores that it may use, which may be fewer than there are."""

import math
import os
from collections.abc import Iterator
from pathlib import Path

from fincompress.core.control_groups import control_groups


def usable_cores(root: Path = Path("/")) -> int:
    """The cores that this process may keep busy, at least 1.

    On Linux these are the cores of its affinity (`taskset`, `docker run --cpuset-cpus`), or what its control groups
    grant if that is less (`docker run --cpus`, limits of Kubernetes); part of a core counts as one.
    Elsewhere all cores.

    Args:
        root: where `proc` and `sys` are mounted.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min([allowed, *(math.ceil(cores) for cores in _quotas(root))]))


def _quotas(root: Path) -> Iterator[float]:
    """The processor time per time, in cores, that each control group of this process is limited to."""
    for group in control_groups("cpu", root):
        try:
            if (group / "cpu.max").is_file():
                quota, period = (group / "cpu.max").read_text().split()
            elif (group / "cpu.cfs_quota_us").is_file():
                quota, period = ((group / f"cpu.cfs_{name}_us").read_text().strip() for name in ("quota", "period"))
            else:
                continue
        except OSError:  # a group that may be seen but not read
            continue
        if quota not in ("max", "-1"):  # no limit, in version 2 and 1
            yield int(quota) / int(period)
