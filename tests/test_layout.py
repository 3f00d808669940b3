"""The plan of the library: rooms on floors, no circle, a ground floor that needs no room, serving without torch."""

import ast
import os
import subprocess
import sys

import pytest
from conftest import ROOT
from local_imports import local_imports

FLOORS = {
    "core": set(),
    "data": {"core"},
    "networks": {"core"},
    "runtimes": {"core", "networks"},
    "compress": {"core", "networks", "runtimes"},
    "benchmark": {"core", "data", "networks", "runtimes", "compress"},
    "report": {"core", "benchmark"},
    "serving": {"core", "data", "networks", "runtimes", "benchmark", "report"},
    "cli": {"core", "data", "networks", "benchmark", "report", "runtimes", "serving"},
}
"""Room -> the rooms that it may import. A room stands on those before it alone, so there can be no circle."""

MODULES = sorted((ROOT / "fincompress").rglob("*.py"))
HEAVY = (
    "torch",
    "transformers",
    "nncf",
    "datasets",
    "sklearn",
    "scipy",
    "matplotlib",
    "dvc",
    "gradio",
    "ray",
    "openvino",
)


def imports(tree: ast.AST) -> set[str]:
    """Modules that a syntax tree imports, in functions too."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def rooms(names: set[str]) -> set[str]:
    return {name.split(".")[1] for name in names if name.startswith("fincompress.")} & FLOORS.keys()


def test_every_folder_of_the_library_is_a_room_on_a_floor():
    folders = {path.name for path in (ROOT / "fincompress").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == FLOORS.keys()
    for number, (room, below) in enumerate(FLOORS.items()):
        assert below <= set(list(FLOORS)[:number]), f"{room} stands on a room above it"


@pytest.mark.parametrize("room", FLOORS)
def test_a_room_imports_only_rooms_below_it(room):
    found = {}
    for path in sorted((ROOT / "fincompress" / room).rglob("*.py")):
        if others := rooms(imports(ast.parse(path.read_text(encoding="utf-8")))) - {room} - FLOORS[room]:
            found[path.relative_to(ROOT).as_posix()] = others
    assert found == {}


def test_no_module_imports_itself_through_others():
    """Imports inside functions count: such a circle is a knot too."""
    for path in MODULES:
        module = path.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".").removesuffix(".__init__")
        own = path.relative_to(ROOT).as_posix()
        direct = {name.rpartition(".")[0] for name in imports(ast.parse(path.read_text(encoding="utf-8")))}
        for name in sorted(direct | {module}):
            if name != module and name.startswith("fincompress."):
                assert own not in local_imports(name, ROOT), f"{module} and {name} import each other"


def test_a_room_is_entered_without_loading_anything():
    """Else serving would load torch by importing the room that it lies in."""
    for path in (ROOT / "fincompress").rglob("__init__.py"):
        if path.parent.name != "fincompress":
            (docstring,) = ast.parse(path.read_text(encoding="utf-8")).body
            assert isinstance(docstring, ast.Expr), path


def loaded(code: str) -> set[str]:
    """Which of the heavy packages are loaded after `code` in a new process."""
    code = f"{code}\nimport sys; print(*[name for name in {HEAVY} if sys.modules.get(name)])"
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_the_ground_floor_loads_nothing_heavy():
    modules = [path.stem for path in (ROOT / "fincompress/core").glob("*.py") if path.stem != "__init__"]
    assert loaded("\n".join(f"import fincompress.core.{name}" for name in modules)) == set()


def test_serving_a_converted_model_loads_no_torch():
    code = "from fincompress import load_classifier\nimport fincompress.runtimes.onnxruntime, fincompress.cli.main"
    assert loaded(code) == set()


def test_tests_mirror_the_rooms():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders == FLOORS.keys() | {"helpers", "pipeline", "studies"}


def test_no_module_is_too_long_to_read():
    lengths = {path.relative_to(ROOT).as_posix(): len(path.read_text().splitlines()) for path in MODULES}
    assert {name: lines for name, lines in lengths.items() if lines > 350} == {}


@pytest.fixture(scope="module")
def shared():
    """Something that the tests of a module share."""


@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="one process runs all tests")
def test_tests_that_share_a_fixture_of_their_module_go_to_one_worker(shared, request):
    assert request.node.nodeid.endswith("@test_layout"), "pytest-xdist did not see the group that conftest.py gave it"
