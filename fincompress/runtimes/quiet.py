"""OpenVINO and NNCF without their telemetry and their noise: always import both from here.

Each reports its use over the network as soon as it is imported, but only if the package `openvino_telemetry`, which
both require, can be imported. Declaring that package absent is the only switch that works before the import.
"""

import contextlib
import importlib
import io
import logging
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # None is how Python spells absent

import openvino  # noqa: E402, after the switch

__all__ = ["load_nncf", "openvino", "quiet"]


def load_nncf() -> ModuleType:
    """The module nncf, which imports torch: only quantisation needs it, serving does not."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nncf = importlib.import_module("nncf")
    nncf.set_log_level(logging.ERROR)
    return nncf


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence what conversion and calibration print: progress bars, advice, tracing warnings. Errors still raise."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(disabled)
