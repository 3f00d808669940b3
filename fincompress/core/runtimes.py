"""What the project knows of every runtime: one entry each, read by all who tell them apart.

A further runtime is an entry in `RUNTIMES` and the module it names. Functions are named here as `module:function` and
imported by those who call them, so that reading a name loads no runtime. Serving reads this table; that of
networks, in `registry`, needs pydantic.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fincompress.core.model_files import WEIGHTS

_BESIDE = ("config.json", "tokenizer.json")
_CHECKPOINT = ("model.safetensors", "config.json")  # its tokenizer may be of an older kind, which transformers reads


@dataclass(frozen=True)
class Runtime:
    """A way to run a model folder."""

    name: str  # as `--runtime` takes it
    title: str  # what people call it
    marker: str  # in figures, as matplotlib names it
    files: tuple[str, ...]  # that a model folder for it holds; the first tells a folder of it from others
    classifier: str  # opens a folder: (folder, threads) -> `runtimes.base.Classifier`
    instead: tuple[str, ...] = ()  # what a folder may hold in place of the first file
    key: str | None = None  # in the names of variants that are converted for it: the `ort` of kd_ort_int8
    format: str | None = None  # as `fincompress export --format` calls a folder of it
    to_fp32: str | None = None  # converts a checkpoint: (checkpoint, out)
    to_int8: str | None = None  # converts a checkpoint: (checkpoint, out, quantisation params, calibration texts)
    calibrated: bool = False  # its int8 fixes the ranges of activations beforehand, on texts
    fp32: str | None = None  # the runtime that runs fp32 in its place, where it runs int8 alone
    package: str | None = None  # what a served model needs to be installed, beside numpy and tokenizers
    library: str | None = None  # as the Hugging Face hub names what loads such a folder

    @property
    def base(self) -> str:
        """The runtime whose fp32 network shows what this one does for speed, apart from compression."""
        return self.fp32 or self.name


RUNTIMES = {
    runtime.name: runtime
    for runtime in (
        Runtime(
            name="onnxruntime",
            title="ONNX Runtime",
            marker="s",
            files=("model.onnx", *_BESIDE),
            classifier="fincompress.runtimes.onnxruntime:OnnxClassifier",
            key="ort",
            format="onnx",
            to_fp32="fincompress.runtimes.convert:to_onnx",
            to_int8="fincompress.compress.ptq:to_onnx_int8",
            package="onnxruntime",
            library="onnx",
        ),
        Runtime(
            name="openvino",
            title="OpenVINO",
            marker="^",
            files=("openvino_model.xml", "openvino_model.bin", *_BESIDE),
            classifier="fincompress.runtimes.openvino:OpenVinoClassifier",
            key="ov",
            format="openvino",
            to_fp32="fincompress.runtimes.convert:to_openvino",
            to_int8="fincompress.compress.ptq:to_openvino_int8",
            calibrated=True,
            package="openvino",
            library="openvino",
        ),
        Runtime(
            name="bag_of_words",
            title="bag of words",
            marker="D",
            files=("bag_of_words.json", "model.safetensors"),
            classifier="fincompress.runtimes.bag_of_words:BagOfWords.load",
        ),
        Runtime(
            name="torch",
            title="PyTorch",
            marker="o",
            files=_CHECKPOINT,
            classifier="fincompress.runtimes.pytorch:TorchClassifier",
            instead=WEIGHTS[1:],
            format="torch",
            library="transformers",
        ),
        Runtime(
            name="torch_int8",
            title="PyTorch",
            marker="o",
            files=_CHECKPOINT,
            classifier="fincompress.runtimes.pytorch:TorchInt8Classifier",
            instead=WEIGHTS[1:],
            key="torch",
            fp32="torch",
        ),
    )
}
"""Name -> runtime. A folder is for the first whose first file it holds."""

FLOOR = "bag_of_words"
"""The variant that all others should beat; its network and its runtime are called so too."""

INT8_RUNTIMES = tuple(runtime for runtime in RUNTIMES.values() if runtime.to_int8)
"""Those that networks are quantised for after training."""


def load_object(reference: str | None) -> Callable:
    """What `module:name` names; importing the module.

    Raises:
        ValueError: there is no reference: the runtime cannot do it.
    """
    if reference is None:
        raise ValueError("the registry names no function for that")
    module, _, path = reference.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return found


def converted_name(network: str, runtime: Runtime, precision: str) -> str:
    """The name of the variant that a network becomes when it is converted for a runtime: `kd_ort_int8`."""
    return f"{network}_{runtime.key}_{precision}"
