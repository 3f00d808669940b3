"""What dvc.yaml declares, at the top and in the recipes, with `foreach` resolved."""

from pathlib import Path

from conftest import ROOT
from ruamel.yaml import YAML

from fincompress.core.params import SCHEMAS, pipeline_kind

TOP = ROOT


def resolved(stages: dict) -> dict[str, dict]:
    """Stages by the names that DVC gives them: `ptq@kd` of a `foreach` over names."""
    single = {}
    for name, stage in stages.items():
        if "foreach" not in stage:
            single[name] = stage
            continue
        for item in stage["foreach"]:
            single[f"{name}@{item}"] = _filled(stage["do"], item)
    return single


def _filled(value, item: str):
    if isinstance(value, dict):
        return {_filled(key, item): _filled(inner, item) for key, inner in value.items()}
    if isinstance(value, list):
        return [_filled(inner, item) for inner in value]
    return value.replace("${item}", item) if isinstance(value, str) else value


PIPELINES = {folder: YAML(typ="safe").load(folder / "dvc.yaml") for folder in (TOP, *sorted(ROOT.glob("recipes/*")))}
STAGES = {
    (folder, name): stage
    for folder, declared in PIPELINES.items()
    for name, stage in resolved(declared["stages"]).items()
}


def command(folder: Path, stage: str) -> list[str]:
    """The module that a stage's command runs, and what it is given."""
    words = STAGES[folder, stage]["cmd"].split()
    prefix = [] if folder == TOP else [f"PYTHONPATH={'/'.join(['..'] * len(folder.relative_to(TOP).parts))}"]
    assert words[: len(prefix) + 2] == [*prefix, "python", "-m"]
    return words[len(prefix) + 2 :]


def outputs(stage: dict, kind: str) -> list[str]:
    """The paths under `outs`, `metrics` or `plots` of a stage."""
    return [next(iter(out)) if isinstance(out, dict) else out for out in stage.get(kind, [])]


def schema(folder: Path):
    """The schema of the params.yaml beside a dvc.yaml."""
    return SCHEMAS[pipeline_kind(folder / "params.yaml")]
