"""Which of the project's files a module imports, directly or not, found in the source text."""

import ast
import functools
import re
from pathlib import Path

PACKAGES = ("fincompress", "stages")


def local_imports(module: str, root: Path) -> set[str]:
    """Project files that importing `module` can ever load, imports inside functions included, as `a/b.py`."""
    seen: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        for file in _files(name, root):
            if file in seen:
                continue
            seen.add(file)
            waiting.extend(_loads((root / file).read_text(encoding="utf-8"), root))
    return seen


@functools.cache  # by the text: tests ask for the same files again and again
def _loads(text: str, root: Path) -> tuple[str, ...]:
    tree = ast.parse(text)
    return (*_imported(tree), *_started(tree), *_looked_up(tree, root))


def says_something(file: str, root: Path) -> bool:
    """Whether importing a file does anything: a package's `__init__.py` that is a docstring alone does not."""
    body = ast.parse((root / file).read_text(encoding="utf-8")).body
    return any(not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)) for node in body)


def _files(name: str, root: Path) -> list[str]:
    """The files that `import name` runs: the packages on the way and the module itself."""
    parts = name.split(".")
    if parts[0] not in PACKAGES:
        return []
    files = ["/".join([*parts[:depth], "__init__.py"]) for depth in range(1, len(parts) + 1)]
    files.append("/".join(parts) + ".py")
    return [file for file in files if (root / file).is_file()]


def _imported(tree: ast.AST) -> list[str]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def _started(tree: ast.AST) -> list[str]:
    """Modules run as `[python, "-m", "package.module"]`: they are read as much as imported ones."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.List):
            values = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            names.extend(str(values[index + 1]) for index, value in enumerate(values[:-1]) if value == "-m")
    return names


def _looked_up(tree: ast.AST, root: Path) -> list[str]:
    """Modules of the registry's `module:name` references, where the tree is of one that calls `load_object`."""
    calls = (node.func for node in ast.walk(tree) if isinstance(node, ast.Call))
    if not any(isinstance(function, ast.Name) and function.id == "load_object" for function in calls):
        return []
    references = []
    for file in sorted((root / "fincompress/core").glob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                references += re.findall(r"^(fincompress(?:\.\w+)+):[\w.]+$", node.value)
    return references
