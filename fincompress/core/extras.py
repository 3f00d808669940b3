"""Which extra of the package brings what the bare install lacks.

`pip install fincompress` brings what serving an int8 model in ONNX Runtime needs. Whatever else is imported belongs to
an extra, and who lacks it is told its name instead of a traceback.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from fincompress.core.errors import InputError

_PIPELINE = (
    *("accelerate", "datasets", "dvclive", "httpx2", "huggingface_hub", "jinja2", "matplotlib", "nncf", "onnx"),
    *("onnxscript", "pandas", "pydantic", "ruamel", "safetensors", "scipy", "sklearn", "torch", "transformers"),
    "vl_convert",
)
EXTRAS = {
    **dict.fromkeys(_PIPELINE, "pipeline"),
    "openvino": "openvino",
    "pyarrow": "parquet",
    "gradio": "demo",
    **dict.fromkeys(("fastapi", "httptools", "prometheus_client", "starlette", "uvicorn"), "serve"),
    "ray": "ray",
    **dict.fromkeys(("appdirs", "dvc", "dvc_gdrive", "socks"), "drive"),
}
"""Top-level module -> the smallest extra that brings it."""


def command(extra: str) -> str:
    """What a person types to install an extra."""
    return f"pip install 'fincompress[{extra}]'"


@contextmanager
def explained() -> Iterator[None]:
    """An import that fails within for want of an extra raises an `InputError` that names it; others fail as they do."""
    try:
        yield
    except ModuleNotFoundError as error:
        module = (error.name or "").partition(".")[0]
        if module not in EXTRAS:
            raise
        raise InputError(f"this needs {module}, which is not installed: {command(EXTRAS[module])}") from None
