"""What a variant is: a trained network in the format of one runtime, with one name everywhere."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fincompress.params import INT8_RUNTIMES, NETWORKS, pipeline_kind


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline trains and converts; all else is compared with the first network."""

    networks: tuple[str, ...]  # trained, in fp32
    quantized: dict[str, tuple[str, ...]]  # those of them converted to int8 after training, for which `INT8_RUNTIMES`
    int8_folder: str  # of the converted ones, below models/
    torch_int8: tuple[str, ...]  # those measured in PyTorch's own int8 as well, for comparison
    qat: bool  # whether a network is trained in int8


PIPELINES = {
    "side_by_side": Pipeline(
        networks=NETWORKS,
        quantized=dict.fromkeys(NETWORKS, tuple(INT8_RUNTIMES)),
        int8_folder="ptq",
        torch_int8=("teacher",),
        qat=True,
    ),
    "stacked": Pipeline(
        networks=("baseline", "prune", "recover"),
        quantized={"baseline": ("ort",), "recover": tuple(INT8_RUNTIMES)},
        int8_folder="quantize",
        torch_int8=("recover",),
        qat=False,
    ),
}
"""Key of `params.SCHEMAS` -> what that pipeline makes."""


def current_pipeline() -> Pipeline:
    """The pipeline of the params.yaml in the working directory."""
    return PIPELINES[pipeline_kind()]


def reference_of(names: Collection[str]) -> str:
    """Which of these variants, all of one pipeline, the others are compared with."""
    return next(pipeline.networks[0] for pipeline in PIPELINES.values() if pipeline.networks[0] in names)


@dataclass(frozen=True)
class Variant:
    """A model as it would be shipped."""

    name: str  # of its file under metrics/
    network: str  # the trained network it holds
    runtime: str  # as `runtime.open_classifier` knows it
    folder: Path
    shipped: Path | None = None  # the folder whose bytes are its size, where that is not `folder`


def saved_variants(models: Path, pipeline: Pipeline) -> list[Variant]:
    """Those that a pipeline keeps below `models`: fp32, trained in int8, converted to int8."""
    return [
        *(Variant(network, network, "torch", models / network) for network in pipeline.networks),
        *([Variant("qat", "qat", "openvino", models / "qat")] if pipeline.qat else []),
        *(
            Variant(name, network, INT8_RUNTIMES[key], models / pipeline.int8_folder / name)
            for network, keys in pipeline.quantized.items()
            for key in keys
            for name in [f"{network}_{key}_int8"]
        ),
    ]


def saved_folder(name: str, models: Path = Path("models")) -> Path | None:
    """The folder of a variant below `models`; None where the pipeline keeps none."""
    variants = saved_variants(models, current_pipeline())
    return next((variant.folder for variant in variants if variant.name == name), None)


def network_of(variant: str) -> str:
    """The network a variant holds, by its name: `kd_ort_int8` holds `kd`."""
    return re.split(r"_(?:ort|ov|torch)_", variant)[0]


def runtime_name(variant: str) -> str:
    """What people call the runtime that a variant is for, by its name."""
    if variant == "bag_of_words":
        return "bag of words"
    if variant == "qat" or "_ov_" in variant:
        return "OpenVINO"
    return "ONNX Runtime" if "_ort_" in variant else "PyTorch"
