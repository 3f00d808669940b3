"""How many threads a process should use, under an affinity and under quotas of control groups."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fincompress.core.threads import usable_cores


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


@pytest.fixture(autouse=True)
def eight_cores(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)), raising=False)


VERSION_2 = {"proc/self/cgroup": "0::/pod/app\n"}
VERSION_1 = {"proc/self/cgroup": "4:memory:/docker/a\n3:cpu,cpuacct:/docker/a\n0::/\n"}


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, 8),
        ({**VERSION_2, "sys/fs/cgroup/pod/app/cpu.max": "max 100000\n"}, 8),
        ({**VERSION_2, "sys/fs/cgroup/pod/app/cpu.max": "200000 100000\n"}, 2),
        ({**VERSION_2, "sys/fs/cgroup/pod/app/cpu.max": "max 100000", "sys/fs/cgroup/pod/cpu.max": "150000 100000"}, 2),
        ({**VERSION_2, "sys/fs/cgroup/cpu.max": "10000 100000\n"}, 1),
        ({**VERSION_2, "sys/fs/cgroup/pod/cpu.max": "6400000 100000\n"}, 8),
        (
            {
                **VERSION_1,
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_quota_us": "-1\n",
                "sys/fs/cgroup/cpu/docker/a/cpu.cfs_period_us": "100000\n",
                "sys/fs/cgroup/memory/docker/a/cpu.cfs_quota_us": "100000\n",
                "sys/fs/cgroup/memory/docker/a/cpu.cfs_period_us": "100000\n",
            },
            8,
        ),
        (
            {
                **VERSION_1,
                "sys/fs/cgroup/cpu/cpu.cfs_quota_us": "300000\n",
                "sys/fs/cgroup/cpu/cpu.cfs_period_us": "100000\n",
            },
            3,
        ),
    ],
)
def test_a_quota_of_a_control_group_or_of_one_around_it_counts_whole_cores(tmp_path, files, cores):
    assert usable_cores(write(tmp_path, files)) == cores


def test_without_affinities_it_is_all_cores(tmp_path, monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert usable_cores(tmp_path) == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert usable_cores(tmp_path) == 1


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux pins a process to cores")
def test_a_process_pinned_to_one_core_uses_one_thread():
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
        "from fincompress.core.threads import usable_cores; print(usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1\n"
