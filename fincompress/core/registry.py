"""What the project knows of every runtime and every network: one entry each, read by all who tell them apart.

A further runtime is an entry in `RUNTIMES` and the module it names; a further network is an entry in its pipeline, a
section in params.yaml and a stage in dvc.yaml. Functions are named here as `module:function` and imported by those who
call them, so that reading a name loads no runtime.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from fincompress.core.sections import (
    IkdParams,
    KdParams,
    PruneParams,
    QatParams,
    Section,
    SoftLabelParams,
    SparsePruneParams,
    TeacherParams,
)

_BESIDE = ("config.json", "tokenizer.json", "tokenizer_config.json")
_CHECKPOINT = ("model.safetensors", *_BESIDE)


@dataclass(frozen=True)
class Runtime:
    """A way to run a model folder."""

    name: str  # as `--runtime` takes it
    title: str  # what people call it
    marker: str  # in figures, as matplotlib names it
    files: tuple[str, ...]  # that a model folder for it holds; the first tells a folder of it from others
    classifier: str  # opens a folder: (folder, threads) -> `runtimes.base.Classifier`
    key: str | None = None  # in the names of variants that are converted for it: the `ort` of kd_ort_int8
    format: str | None = None  # as `fincompress export --format` calls a folder of it
    to_fp32: str | None = None  # converts a checkpoint: (checkpoint, out)
    to_int8: str | None = None  # converts a checkpoint: (checkpoint, out, quantisation params, calibration texts)
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
            format="torch",
            library="transformers",
        ),
        Runtime(
            name="torch_int8",
            title="PyTorch",
            marker="o",
            files=_CHECKPOINT,
            classifier="fincompress.runtimes.pytorch:TorchInt8Classifier",
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


@dataclass(frozen=True)
class Network:
    """A network that a pipeline trains. Its stage, params.yaml section and folder below models/ all have its name."""

    name: str
    section: type[Section]
    made_by: str  # for model cards
    stage: str = ""  # the module in stages/ that takes its name as an argument; empty: its own
    runtime: str = "torch"  # that runs its folder
    quantized: bool = True  # after training, for each of `INT8_RUNTIMES`
    torch_int8: bool = False  # also measured in PyTorch's own int8, for comparison

    @property
    def command(self) -> tuple[str, ...]:
        """What follows `python -m` to train it."""
        return (f"stages.{self.stage}", self.name) if self.stage else (f"stages.{self.name}",)


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline trains and converts."""

    networks: tuple[Network, ...]  # in an order in which they can be trained; the others are compared with the first
    int8: str  # name of the stage, section and folder below models/ for conversion to int8

    def __post_init__(self) -> None:
        names = [network.name for network in self.networks]
        if len(set(names)) < len(names):
            raise ValueError(f"two networks of one name in {', '.join(names)}")

    @property
    def reference(self) -> str:
        """The network that all variants are compared with."""
        return self.networks[0].name

    def saved_names(self) -> list[str]:
        """The variants that are kept: as trained, then converted to int8."""
        converted = [
            converted_name(network.name, runtime, "int8")
            for network in self.networks
            if network.quantized
            for runtime in INT8_RUNTIMES
        ]
        return [*(network.name for network in self.networks), *converted]

    def measured_names(self) -> list[str]:
        """The variants that `benchmark` compares: the saved ones, and those that it makes to compare with."""
        fp32 = [converted_name(self.reference, runtime, "fp32") for runtime in RUNTIMES.values() if runtime.to_fp32]
        in_torch = [
            converted_name(network.name, RUNTIMES["torch_int8"], "int8")
            for network in self.networks
            if network.torch_int8
        ]
        return [*self.saved_names(), *fp32, *in_torch, FLOOR]

    def network(self, name: str) -> Network:
        """The network with this name."""
        return next(network for network in self.networks if network.name == name)

    def sources(self, network: str) -> list[str]:
        """Networks that `network` can start from: those before it that are not int8 already."""
        names = [entry.name for entry in self.networks]
        return [entry.name for entry in self.networks[: names.index(network)] if entry.runtime == "torch"]


_FINE_TUNED = "a pretrained encoder fine-tuned on the data below"
_PRUNED = "a network without its least important attention heads, which are removed, not masked"

PIPELINES = {
    "side_by_side": Pipeline(
        networks=(
            Network("teacher", TeacherParams, _FINE_TUNED, stage="teacher", torch_int8=True),
            Network("kd", KdParams, "a student of the teacher's soft labels (Hinton et al. 2015)"),
            Network(
                "ikd",
                IkdParams,
                "a student of the teacher's soft labels, hidden states and attention (TinyBERT, Jiao et al. 2020)",
            ),
            Network("prune30", PruneParams, _PRUNED, stage="prune"),
            Network("prune50", PruneParams, _PRUNED, stage="prune"),
            Network(
                "qat",
                QatParams,
                "a network fine-tuned with int8 fake quantisation towards the teacher, and converted",
                runtime="openvino",
                quantized=False,
            ),
        ),
        int8="ptq",
    ),
    "stacked": Pipeline(
        networks=(
            Network("baseline", TeacherParams, _FINE_TUNED, stage="teacher"),
            Network(
                "prune", SparsePruneParams, f"{_PRUNED}; its smallest weights are zero", stage="prune", quantized=False
            ),
            Network("recover", SoftLabelParams, "a pruned network distilled from the whole one", torch_int8=True),
        ),
        int8="quantize",
    ),
}
"""Value of the key `pipeline` of params.yaml (by default the first) -> what that pipeline makes."""


def pipeline_of(variants: Collection[str]) -> Pipeline:
    """The pipeline that these variants belong to."""
    return next(pipeline for pipeline in PIPELINES.values() if pipeline.reference in variants)
