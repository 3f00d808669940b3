"""dvc.yaml, params.yaml, dvc.lock and the code say the same."""

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, project_files
from local_imports import local_imports
from pydantic import BaseModel
from ruamel.yaml import YAML

from fincompress.core.files import read_json
from fincompress.core.params import SCHEMAS, pipeline_kind

TOP = ROOT
PIPELINES = {folder: YAML(typ="safe").load(folder / "dvc.yaml") for folder in (TOP, *sorted(ROOT.glob("recipes/*")))}
STAGES = {(folder, name): stage for folder, declared in PIPELINES.items() for name, stage in declared["stages"].items()}
stages = pytest.mark.parametrize(
    ("folder", "stage"), STAGES, ids=[f"{folder.name if folder != TOP else 'top'}:{name}" for folder, name in STAGES]
)


def command(folder: Path, stage: str) -> list[str]:
    """The module that a stage's command runs, and what it is given."""
    words = STAGES[folder, stage]["cmd"].split()
    prefix = [] if folder == TOP else [f"PYTHONPATH={'/'.join(['..'] * len(folder.relative_to(TOP).parts))}"]
    assert words[: len(prefix) + 2] == [*prefix, "python", "-m"]
    return words[len(prefix) + 2 :]


def schema(folder: Path):
    return SCHEMAS[pipeline_kind(folder / "params.yaml")]


@stages
def test_deps_are_exactly_the_files_the_stage_imports(folder, stage):
    deps = (os.path.normpath(folder / dep) for dep in STAGES[folder, stage]["deps"] if dep.endswith(".py"))
    declared = {Path(dep).relative_to(ROOT).as_posix() for dep in deps}
    assert declared == local_imports(command(folder, stage)[0], ROOT)


@stages
def test_params_are_exactly_the_sections_the_stage_loads(folder, stage):
    module, *given = command(folder, stage)
    tree = ast.parse((ROOT / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8"))
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and _name(node) == "load_params")
    (main,) = (node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "main")
    positional = main.args.args[: len(main.args.args) - len(main.args.defaults)]
    values = dict(zip((argument.arg for argument in positional), given, strict=True))
    loaded = [values[argument.id] if isinstance(argument, ast.Name) else argument.value for argument in call.args]
    assert STAGES[folder, stage]["params"] == loaded


@stages
def test_every_declared_key_is_read_by_the_stage(folder, stage):
    read = set()
    for file in local_imports(command(folder, stage)[0], ROOT) - {"fincompress/params.py"}:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        read |= {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for name in STAGES[folder, stage]["params"]:
        annotation = schema(folder)
        for part in name.split("."):
            annotation = annotation.model_fields[part].annotation
        leaves = _leaves(name, annotation)
        assert [key for key in leaves if key.split(".")[-1] not in read] == []


def _name(call: ast.Call) -> str:
    return getattr(call.func, "id", getattr(call.func, "attr", ""))


def _leaves(name: str, annotation) -> list[str]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = annotation.model_fields.items()
        return [leaf for key, field in fields for leaf in _leaves(f"{name}.{key}", field.annotation)]
    return [name]


@stages
def test_every_stage_says_what_it_does(folder, stage):
    assert STAGES[folder, stage]["desc"]


@stages
def test_a_stage_runs_the_module_of_its_name_or_one_that_is_given_its_name(folder, stage):
    module, *given = command(folder, stage)
    assert [module, *given] in ([f"stages.{stage}"], [module, stage])
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file() and module.startswith("stages.")


@stages
def test_a_stage_with_models_can_be_restored_from_the_run_cache(folder, stage):
    outs = STAGES[folder, stage].get("outs", [])
    if any(str(out).startswith("models/") for out in outs):  # DVC keeps no run of a stage with uncached plain outputs
        assert not [out for out in outs if isinstance(out, dict)], "list it under plots or metrics"


@pytest.mark.parametrize(
    ("folder", "stage"), [(folder, stage) for folder, stage in STAGES if stage in ("plots", "ship")]
)
def test_what_reads_metrics_reads_every_variant_that_benchmark_writes(folder, stage):
    written = {next(iter(entry)) for entry in STAGES[folder, "benchmark"]["metrics"]}
    deps = STAGES[folder, stage]["deps"]
    assert written == {dep for dep in deps if dep.startswith("metrics/") and "about" not in dep}
    assert written == {f"metrics/{path.name}" for path in (folder / "metrics").glob("*.json")}


def test_every_record_has_the_same_keys():
    records = [read_json(path) for folder in PIPELINES for path in (folder / "metrics").glob("*.json")]
    shapes = {str([(key, list(v) if isinstance(v, dict) else 0) for key, v in record.items()]) for record in records}
    assert len(shapes) == 1


def test_the_committed_lock_is_current_in_a_clean_clone(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    result = subprocess.run(
        ["dvc", "repro", "--all-pipelines", "--dry", "--allow-missing"],
        cwd=clone,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    assert "Running stage" not in result.stdout, f"run `make repro` and commit dvc.lock ({dirty or 'clean checkout'})"


def test_the_embedded_default_needs_no_network_name():
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    assert (params["prepare"]["source"], params["teacher"]["checkpoint"]) == ("embedded", "minilm")


def test_nothing_large_is_committed():
    assert [file for file in project_files() if (ROOT / file).stat().st_size > 1_500_000] == []


def test_requirements_are_pinned():
    lines = [line for file in ROOT.glob("requirements*.txt") for line in file.read_text().splitlines()]
    assert all("==" in line for line in lines if line and not line.startswith("#"))


SECRETS = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----|GOCSPX-|ya29\.|AIza[\w-]{30}|gdrive_client_secret\s*="
    r"|ghp_\w{30}|hf_[A-Za-z]{30}"
)


def test_no_secret_is_in_git():
    """Keys, OAuth secrets and tokens of the kinds that the project's tools use."""
    found = {}
    for file in project_files():
        match = SECRETS.search((ROOT / file).read_bytes().decode("latin-1"))
        if match and file != "tests/test_project.py":
            found[file] = match[0]
    assert found == {}
    ignored = subprocess.run(["git", "check-ignore", "-q", ".dvc/config.local"], cwd=ROOT)
    assert ignored.returncode == 0 or not (ROOT / ".git").exists()


@pytest.mark.parametrize("secret", ["-----BEGIN RSA PRIVATE KEY-----", "gdrive_client_secret = x", "GOCSPX-abc"])
def test_a_secret_would_be_found(secret):
    assert SECRETS.search(secret)


def test_the_remotes_are_ready_and_hold_nothing_of_one_machine():
    config = configparser.ConfigParser()
    config.read(ROOT / ".dvc/config")
    assert config["core"]["analytics"].lower() == "false" and config["core"]["autostage"].lower() == "true"
    remotes = {name: dict(config[name]) for name in config.sections() if "remote" in name}
    urls = [remote["url"] for remote in remotes.values()]
    assert any(url.startswith("gdrive://") for url in urls) and not [url for url in urls if url.startswith("/")]
    assert not [key for remote in remotes.values() for key in remote if "secret" in key or "file" in key]
