"""dvc.yaml, params.yaml, dvc.lock and the code say the same."""

import ast
import configparser
import importlib
import os
import re
import subprocess
import sys
import types
from functools import reduce
from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
from conftest import ROOT, project_files
from declared import PIPELINES, STAGES, TOP, command, outputs, schema
from local_imports import local_imports, says_something
from pydantic import BaseModel
from ruamel.yaml import YAML

from fincompress.core import registry
from fincompress.core.files import read_json
from fincompress.core.params import keys_of, pipeline_kind
from fincompress.core.variants import measured_variants, saved_variants

SURPLUS = 8
"""Files of declared rooms, at most, that a training stage does not import: an edit of one trains it for nothing."""

stages = pytest.mark.parametrize(
    ("folder", "stage"), STAGES, ids=[f"{folder.name if folder != TOP else 'top'}:{name}" for folder, name in STAGES]
)
pipelines = pytest.mark.parametrize(
    "folder", PIPELINES, ids=["top", *(folder.name for folder in PIPELINES if folder != TOP)]
)


def code_deps(folder: Path, stage: str) -> dict[str, set[str]]:
    """Declared dep on code -> the project's modules that it covers, as `a/b.py`."""
    covered = {}
    for dep in STAGES[folder, stage]["deps"]:
        path = Path(os.path.normpath(folder / dep))
        name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else ""
        if name.startswith(("fincompress", "stages")) and "/corpus/" not in name:
            files = path.rglob("*.py") if path.is_dir() else [path]
            covered[name] = {file.relative_to(ROOT).as_posix() for file in files}
    return covered


def imported(folder: Path, stage: str) -> set[str]:
    """The project's modules that a stage can ever load, but for packages that say nothing."""
    files = local_imports(command(folder, stage)[0], ROOT) - {"fincompress/__init__.py"}  # looks up serving when asked
    return {file for file in files if says_something(file, ROOT)}


@stages
def test_deps_cover_every_file_the_stage_imports_and_name_none_in_vain(folder, stage):
    covered, needed = code_deps(folder, stage), imported(folder, stage)
    assert needed - set().union(*covered.values()) == set()
    assert [name for name, files in covered.items() if not files & needed] == []
    nested = [(name, other) for name in covered for other in covered if other.startswith(f"{name}/")]
    assert nested == [], "the second is in the first"


@stages
def test_an_edit_outdates_little_more_than_the_stages_that_import_the_file(folder, stage):
    covered, needed = code_deps(folder, stage), imported(folder, stage)
    surplus = {file for file in set().union(*covered.values()) - needed if says_something(file, ROOT)}
    if any(stage == network.name for pipeline in registry.PIPELINES.values() for network in pipeline.networks):
        assert len(surplus) <= SURPLUS, surplus


@stages
def test_params_are_exactly_the_keys_that_the_stage_needs(folder, stage):
    module, *given = command(folder, stage)
    needs = importlib.import_module(module).Needs
    keys = keys_of(needs, given[0] if given else None)
    assert sorted(STAGES[folder, stage]["params"]) == sorted(keys.values())
    for name, annotation in get_type_hints(needs).items():
        declared = reduce(
            lambda model, part: model.model_fields[part].annotation, keys[name].split("."), schema(folder)
        )
        assert _accepts(annotation, declared), f"{name}: {annotation} does not take {declared}"


def _declared(folder: Path, key: str):
    """The type of a key of params.yaml."""
    return reduce(lambda model, part: model.model_fields[part].annotation, key.split("."), schema(folder))


def _accepts(annotation, declared) -> bool:
    """Whether what params.yaml holds fits the type that a stage says it has."""
    if isinstance(annotation, types.UnionType):
        return any(_accepts(member, declared) for member in annotation.__args__)
    if isinstance(annotation, type) and isinstance(declared, type):
        return issubclass(declared, annotation)
    plain = get_args(declared)[0] if get_origin(declared) is Literal else declared
    if isinstance(plain, str):  # one of several words
        return annotation is str
    return get_origin(annotation) == get_origin(plain)


@stages
def test_every_declared_key_is_read_by_the_stage(folder, stage):
    read = set()
    for file in local_imports(command(folder, stage)[0], ROOT) - {
        "fincompress/core/params.py",
        "fincompress/core/sections.py",
    }:
        tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
        read |= {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        read |= {str(node.value) for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    for name in STAGES[folder, stage]["params"]:
        leaves = _leaves(name, _declared(folder, name))
        assert [key for key in leaves if key.split(".")[-1] not in read] == []


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
    name, _, item = stage.partition("@")
    assert [module, *given] in ([f"stages.{name}"], [module, name], [module, name, item])
    assert (ROOT / f"{module.replace('.', '/')}.py").is_file() and module.startswith("stages.")


@stages
def test_a_stage_with_models_can_be_restored_from_the_run_cache(folder, stage):
    outs = STAGES[folder, stage].get("outs", [])
    if any(str(out).startswith("models/") for out in outs):  # DVC keeps no run of a stage with uncached plain outputs
        assert not [out for out in outs if isinstance(out, dict)], "list it under plots or metrics"


@pipelines
def test_every_network_of_the_registry_has_a_stage_and_every_kept_variant_is_an_output_that_is_measured(folder):
    pipeline = registry.PIPELINES[pipeline_kind(folder / "params.yaml")]
    made = {out: name for (where, name), stage in STAGES.items() if where == folder for out in outputs(stage, "outs")}
    for network in pipeline.networks:
        assert made[f"models/{network.name}"] == network.name
        assert tuple(command(folder, network.name)) == network.command
        assert outputs(STAGES[folder, network.name], "metrics") == [f"metrics/training/{network.name}.json"]
    kept = {str(variant.folder) for variant in saved_variants(Path("models"), pipeline)}
    prepared = {network.prepared_by for network in pipeline.networks if network.prepared_by}
    others = {out for name in prepared for out in outputs(STAGES[folder, name], "outs")} | {"models/shipped"}
    assert {out for out in made if out.startswith("models/")} - others == kept
    for stage in {"benchmark", "ship"} & {name for where, name in STAGES if where == folder}:
        assert {dep for dep in STAGES[folder, stage]["deps"] if dep.startswith("models/")} == kept


@pipelines
def test_the_committed_records_are_those_of_every_measured_variant(folder):
    pipeline = registry.PIPELINES[pipeline_kind(folder / "params.yaml")]
    measured = {variant.name for variant in measured_variants(Path("models"), Path("temporary"), pipeline)}
    assert {path.stem for path in (folder / "metrics/variants").glob("*.json")} == measured
    trained = {path.stem for path in (folder / "metrics/training").glob("*.json")}
    assert trained == {network.name for network in pipeline.networks}


def test_every_record_has_the_same_keys():
    """And those of an object are the same wherever it is there: what does not apply to a variant is null."""
    records = [read_json(path) for folder in PIPELINES for path in (folder / "metrics/variants").glob("*.json")]
    assert len({tuple(record) for record in records}) == 1
    for key in records[0]:
        values = [record[key] for record in records if record[key] is not None]
        assert len({tuple(value) if isinstance(value, dict) else None for value in values}) == 1, key


def test_the_committed_lock_is_current_in_a_clean_clone(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    dirty = subprocess.run(["git", "status", "--porcelain"], cwd=ROOT, capture_output=True, text=True).stdout
    assert would_run(cloned(tmp_path)) == set(), f"run `make repro` and commit dvc.lock ({dirty or 'clean checkout'})"


def cloned(folder: Path) -> Path:
    """A clean clone of the project, without models."""
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(folder / "clone")], check=True)
    return folder / "clone"


def would_run(clone: Path) -> set[str]:
    """The stages that `dvc repro` would run; it stops at the first whose data the clone lacks."""
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = ["dvc", "repro", "--all-pipelines", "--dry", "--allow-missing"]
    result = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    return {*re.findall(r"Running stage '(.+)'", result.stdout), *re.findall(r"to reproduce '(.+?)'", result.stderr)}


def test_texts_to_learn_from_and_to_score_outdate_the_stages_that_read_them(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("not a Git checkout")
    clone = cloned(tmp_path)
    (clone / "inputs/transfer/headlines.txt").write_text("Sales rose.\n")
    ran = would_run(clone)
    assert ran and ran <= {"kd", "ikd", "augment"}
    (clone / "inputs/transfer/headlines.txt").unlink()
    (clone / "inputs/extra/tweets.csv").write_text("text,label\nUp we go,positive\n")
    assert would_run(clone) == {"benchmark"}


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
        if match and file != "tests/pipeline/test_project.py":
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
