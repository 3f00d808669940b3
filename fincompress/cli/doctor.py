"""What a machine and a checkout have and lack for the pipeline and for serving."""

import os
import platform
import shutil
import sys
from importlib import metadata
from pathlib import Path
from typing import Annotated

import typer
from packaging.requirements import Requirement
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fincompress.cli.findings import Finding
from fincompress.core.errors import InputError
from fincompress.core.extras import command, explained
from fincompress.core.files import folder_bytes
from fincompress.core.threads import usable_cores
from fincompress.runtimes.registry import runtime_of

MISSING = "not installed"
MODEL_BYTES = 91_000_000
"""Of the default run's teacher."""
DISK_GB = 3.0
"""What the default run takes: its models, the same in DVC's cache, and room for new ones while the old are there."""


def examine() -> list[Finding]:
    """Look at the machine, the installed packages and the project in the working directory."""
    return [*_machine(), *_room(), *_packages(), *_tools(), *_project()]


def _machine() -> list[Finding]:
    from fincompress.benchmark.machine import hardware

    machine = hardware()
    instructions = machine["vector_instructions"]
    int8 = [name for name in instructions if "vnni" in name or "amx" in name]
    threads = os.environ.get("OMP_NUM_THREADS")
    limited = threads is not None and threads.isdecimal() and int(threads) < usable_cores()
    return [
        Finding("CPU", f"{machine['cpu']}, {machine['physical_cores'] or '?'} cores, {machine['memory_gb']} GB"),
        Finding("vector instructions", ", ".join(instructions) or "none known"),
        Finding(
            "int8 instructions",
            ", ".join(int8) or "none: int8 is as small, but OpenVINO's is no faster than fp32 (ONNX Runtime's is)",
        ),
        Finding(
            "threads",
            f"{usable_cores()} (OMP_NUM_THREADS={threads})" if threads else str(usable_cores()),
            "unset OMP_NUM_THREADS, or training uses fewer cores than there are" if limited else None,
        ),
        Finding(
            "Python",
            platform.python_version(),
            None if sys.version_info >= (3, 11) else "FinCompress needs Python 3.11 or newer",
        ),
        Finding("GPU", _gpu()),
    ]


def _room() -> list[Finding]:
    """Free memory and disk against what the pipeline takes, where the working directory is a project."""
    if not Path("dvc.yaml").is_file():
        return []
    try:
        with explained():
            from fincompress.benchmark.machine import SPARED
            from fincompress.core.memory import available_memory_mb

            needed_mb = workers_need_mb()
    except InputError:
        return []  # `_project` says what is not installed

    free_mb, free_disk = available_memory_mb(), shutil.disk_usage(Path.cwd()).free / 1e9
    needed_disk = DISK_GB - _held_gb()
    return [
        Finding(
            "free memory",
            f"{free_mb / 1e3:.1f} GB, of {needed_mb / 1e3:.0f} GB for all that `benchmark` loads at once",
            "end other programs, or name fewer in benchmark.variants; else it measures variants in groups that fit"
            if free_mb * (1 - SPARED) < needed_mb
            else None,
        ),
        Finding(
            "free disk",
            f"{free_disk:.1f} GB, of {max(0.0, needed_disk):.1f} GB for what a run adds",
            f"free {needed_disk - free_disk:.1f} GB; `dvc gc --workspace` drops what earlier runs left in DVC's cache"
            if free_disk < needed_disk
            else None,
        ),
    ]


def _held_gb() -> float:
    """What earlier runs have left in the working directory."""
    return sum(folder_bytes(folder) for folder in (Path("models"), Path(".dvc/cache")) if folder.is_dir()) / 1e9


def workers_need_mb(models: Path = Path("models")) -> float:
    """Memory that the processes of all variants take at once, on the safe side.

    A model that is not there yet counts as large as it is in the default run.
    """
    from fincompress.benchmark.machine import rough_need_mb
    from fincompress.core.params import current_pipeline
    from fincompress.core.variants import Variant, measured_variants

    variants = measured_variants(models, models / ".compared", current_pipeline())

    def size(variant: Variant) -> int:
        default = MODEL_BYTES // 4 if variant.name.endswith("int8") else MODEL_BYTES
        return folder_bytes(variant.folder) or default

    return sum(rough_need_mb(variant.runtime, size(variant)) for variant in variants)


def _gpu() -> str:
    try:
        import torch
    except ImportError:
        return "unknown without torch"
    return torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none: training runs on the CPU"


def _packages() -> list[Finding]:
    """The installed packages against the ranges that the project declares: its own, then those of each whole extra.

    An extra that is absent, or there in part, is no fault; the pipeline's is, where the working directory is a project.
    """
    try:
        declared = [Requirement(text) for text in metadata.requires("fincompress") or []]
    except metadata.PackageNotFoundError:
        return [Finding("fincompress", MISSING, "`make env`, or pip install . in its folder")]
    declared = [wanted for wanted in declared if wanted.name != "fincompress"]  # an extra that is part of another
    findings = {wanted.name: _package(wanted) for wanted in declared if _is_of(wanted, "")}
    absent = []
    for extra in metadata.metadata("fincompress").get_all("Provides-Extra") or []:
        own = {wanted.name: _package(wanted) for wanted in declared if _is_of(wanted, extra)}
        if lacks := ", ".join(name for name, finding in own.items() if finding.found == MISSING):
            needed = extra == "pipeline" and Path("dvc.yaml").is_file()
            absent.append(Finding(f"extra {extra}", f"lacks {lacks}", command(extra) if needed else None))
        else:
            findings |= own
    return [*findings.values(), *absent]


def _is_of(wanted: Requirement, extra: str) -> bool:
    """Whether a requirement is of this extra, or, where it is empty, of the bare install."""
    if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
        return not extra
    return bool(extra) and wanted.marker.evaluate({"extra": extra})


def _package(wanted: Requirement) -> Finding:
    """What is installed of a requirement."""
    line = f"{wanted.name}{wanted.specifier}"
    try:
        found = metadata.version(wanted.name)
    except metadata.PackageNotFoundError:
        return Finding(wanted.name, MISSING, f"pip install '{line}'")
    fits = wanted.specifier.contains(found, prereleases=True)
    return Finding(wanted.name, found, None if fits else f"outside {wanted.specifier}: pip install '{line}'")


def _tools() -> list[Finding]:
    """The commands that the pipeline needs, which serving does not."""
    needed = Path("dvc.yaml").is_file()
    found = {name: shutil.which(name) for name in ("git", "dvc")}
    return [
        Finding(
            name,
            path or "not found",
            f"install {name}, or activate the environment" if needed and not path else None,
        )
        for name, path in found.items()
    ]


def _project() -> list[Finding]:
    """The project's data and models, where the working directory is one."""
    if not Path("dvc.yaml").is_file():
        return [Finding("project", "none in this folder: serving works, the pipeline needs its folder")]
    try:
        with explained():
            from fincompress.core.params import current_pipeline
            from fincompress.core.variants import saved_variants
    except InputError:
        return [Finding("project", "its models are looked at by what the pipeline needs", command("pipeline"))]
    missing = "`dvc repro` makes it, or `dvc pull dvc.yaml` fetches it"
    findings = [
        Finding("data", "prepared") if Path("data/train.csv").is_file() else Finding("data", "missing", missing)
    ]
    for variant in saved_variants(Path("models"), current_pipeline()):
        try:
            findings.append(Finding(str(variant.folder), f"for {runtime_of(variant.folder)}"))
        except InputError:
            findings.append(Finding(str(variant.folder), "missing", missing))
    return findings


def doctor(
    what: Annotated[
        str | None,
        typer.Argument(
            metavar="[MODEL|FILE]", help="A model folder or a file of texts; without it, this machine and this folder."
        ),
    ] = None,
) -> None:
    """Say what is there and what is to be mended (exit code 1): of this machine, of a model, or of a file of texts."""
    findings = examine() if what is None else _look_at(what)
    table = Table("", "found", "to be mended")
    for finding in findings:
        cells = (escape(cell) for cell in (finding.what, finding.found, finding.mend or ""))
        table.add_row(*cells, style="yellow" if finding.mend else None)
    Console().print(table)
    raise typer.Exit(1 if any(finding.mend for finding in findings) else 0)


def _look_at(what: str) -> list[Finding]:
    """What a model folder or a file of texts is, and what stands in the way of compressing it or learning from it."""
    path = Path(what)
    if path.is_file():
        from fincompress.cli.inspect_data import examine_file

        return examine_file(path)
    from fincompress.cli.inspect_model import examine_model

    if path.is_dir():
        return examine_model(path)
    if what == "minilm":
        from fincompress.networks.locate import locate

        return examine_model(Path(locate(what, "main", "teacher", "checkpoint").folder))
    raise InputError(
        f"{what}: no such file or folder; a checkpoint on the hub has to be fetched first: hf download {what}"
    )
