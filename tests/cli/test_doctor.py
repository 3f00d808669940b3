"""What `fincompress doctor` says of memory and disk."""

import pytest
from conftest import ROOT

from fincompress.cli import doctor


@pytest.fixture(autouse=True)
def project(tmp_path, monkeypatch):
    """An empty project as the working directory; elsewhere nobody needs the room."""
    monkeypatch.chdir(tmp_path)
    for name in ("dvc.yaml", "params.yaml"):
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")


def findings() -> dict[str, doctor.Finding]:
    return {finding.what: finding for finding in doctor._room()}


@pytest.fixture
def disk(monkeypatch):
    def free(gigabytes: float) -> None:
        monkeypatch.setattr(doctor.shutil, "disk_usage", lambda path: type("usage", (), {"free": gigabytes * 1e9}))

    free(100)
    return free


@pytest.mark.parametrize(("free_mb", "short"), [(4_000, True), (40_000, False)])
def test_memory_that_is_short_is_told_with_what_the_default_run_takes(monkeypatch, disk, free_mb, short):
    monkeypatch.setattr("fincompress.core.memory.available_memory_mb", lambda: free_mb)
    assert 8_000 < doctor.workers_need_mb() < 12_000, "20 workers of the default run take about 10 GB"
    memory = findings()["free memory"]
    assert f"{free_mb / 1e3:.1f} GB" in memory.found
    assert ("benchmark.variants" in (memory.mend or "")) == short


def test_models_that_are_there_count_as_they_are(tmp_path):
    default = doctor.workers_need_mb()
    (tmp_path / "models" / "kd").mkdir(parents=True)
    (tmp_path / "models" / "kd" / "model.safetensors").write_bytes(bytes(1_000_000))
    assert doctor.workers_need_mb() == pytest.approx(default - 3 * 90)


def test_disk_that_is_short_is_told_less_what_earlier_runs_hold(tmp_path, monkeypatch, disk):
    assert findings()["free disk"].mend is None
    disk(doctor.DISK_GB - 1)
    assert "free 1.0 GB" in findings()["free disk"].mend
    monkeypatch.setattr(doctor, "folder_bytes", lambda folder: 10**9)
    assert "free 1.0 GB" in findings()["free disk"].mend, "no models yet"
    (tmp_path / "models").mkdir()
    assert findings()["free disk"].mend is None


def test_where_there_is_no_project_no_room_is_asked_for(tmp_path):
    (tmp_path / "dvc.yaml").unlink()
    assert findings() == {}
