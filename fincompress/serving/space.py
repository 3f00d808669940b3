"""A standalone folder that runs the demo, as a Hugging Face Space or anywhere: the app, one small model, no torch.

https://huggingface.co/docs/hub/spaces-sdks-gradio says what a Space needs.
"""

import shutil
from importlib import metadata, resources
from pathlib import Path

from fincompress.core.errors import InputError
from fincompress.core.files import atomic_folder, check_new, folder_bytes
from fincompress.report.templating import template
from fincompress.runtimes.registry import runtime_of

MODULES = (
    "core/control_groups",
    "core/errors",
    "core/examples",
    "core/extras",
    "core/files",
    "core/model_files",
    "core/processes",
    "core/runtimes",
    "core/threads",
    "data/readers",
    "data/tables",
    "networks/architectures",
    "networks/configuration",
    "runtimes/base",
    "runtimes/registry",
    "serving/arrow",
    "serving/bad_rows",
    "serving/batch",
    "serving/classifier",
    "serving/column_types",
    "serving/demo",
    "serving/duel",
    "serving/files",
    "serving/kept_results",
    "serving/tables",
    "serving/writers",
)
"""What the demo imports of the library for any converted model; the runtime's own modules come with it."""
RUNTIMES = {"onnxruntime": ("runtimes/onnxruntime",), "openvino": ("runtimes/openvino", "runtimes/quiet")}
"""Runtime that a Space can have, each the name of its package too -> its modules."""


def write_space(model: Path, out: Path) -> Path:
    """Write `out`: app.py, requirements.txt, README.md (the Space's card), the model, and the modules it needs.

    Raises:
        InputError: the folder holds no converted model, or `out` exists.
    """
    runtime = runtime_of(model)
    if runtime not in RUNTIMES:
        raise InputError(f"{model}: is for {runtime}; a Space takes a converted model, such as models/ptq/ikd_ort_int8")
    check_new(out)
    versions = {name: metadata.version(name) for name in ("gradio", runtime, "tokenizers", "numpy", "tqdm")}
    with atomic_folder(out) as folder:
        shutil.copytree(model, folder / "model", ignore=shutil.ignore_patterns("training.json"))
        package = folder / "fincompress"
        package.mkdir()
        modules = [*MODULES, *RUNTIMES[runtime]]
        rooms = sorted({module.partition("/")[0] for module in modules})
        for name in ("__init__", *(f"{room}/__init__" for room in rooms), *modules):
            (package / name).parent.mkdir(exist_ok=True)
            shutil.copy2(str(resources.files("fincompress") / f"{name}.py"), package / f"{name}.py")
        (folder / "requirements.txt").write_text("".join(f"{name}=={at}\n" for name, at in versions.items()))
        values = {"name": model.name, "gradio": versions["gradio"], "size_mb": folder_bytes(folder / "model") / 1e6}
        for file in ("app.py", "README.md"):
            text = template("serving", f"space/{file}").render(**values)
            (folder / file).write_text(text, encoding="utf-8")
    return out
