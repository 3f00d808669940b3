"""How much memory is left, inside a container and out of one."""

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from fincompress.core.memory import available_memory_mb


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8_000_000_000))


def write(root: Path, files: dict[str, str]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(content)
    return root


def test_without_a_limit_it_is_the_machines(tmp_path):
    assert available_memory_mb(tmp_path) == 8000
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/session\n",
            "sys/fs/cgroup/session/memory.max": "max\n",
            "sys/fs/cgroup/session/memory.current": "1000000\n",
            "sys/fs/cgroup/session/memory.stat": "inactive_file 0\n",
        },
    )
    assert available_memory_mb(tmp_path) == 8000


def test_the_lowest_limit_of_a_group_and_its_parents_counts_less_what_is_used_and_cannot_be_freed(tmp_path):
    group = {"memory.max": "9000000000", "memory.current": "100000000", "memory.stat": "inactive_file 0\n"}
    parent = {
        "memory.max": "4000000000",
        "memory.current": "1500000000",
        "memory.stat": "anon 5\ninactive_file 500000000",
    }
    files = {"proc/self/cgroup": "0::/user/session\n"}
    files |= {f"sys/fs/cgroup/user/session/{name}": text for name, text in group.items()}
    files |= {f"sys/fs/cgroup/user/{name}": text for name, text in parent.items()}
    assert available_memory_mb(write(tmp_path, files)) == 3000


def test_version_1_in_a_container_that_sees_its_own_group_alone(tmp_path):
    files = {
        "proc/self/cgroup": "3:cpu,cpuacct:/docker/abc\n2:memory:/docker/abc\n0::/docker/abc\n",
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000000000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "900000000\n",
        "sys/fs/cgroup/memory/memory.stat": "inactive_file 1\ntotal_inactive_file 400000000\n",
    }
    assert available_memory_mb(write(tmp_path, files)) == 1500
