"""What a variant is: a trained network in the format of one runtime, with one name everywhere."""

import re
from dataclasses import dataclass
from pathlib import Path

from fincompress.params import INT8_RUNTIMES, NETWORKS

REFERENCE = "teacher"
"""The variant that all others are compared with."""


@dataclass(frozen=True)
class Variant:
    """A model as it would be shipped."""

    name: str  # of its file under metrics/
    network: str  # the trained network it holds
    runtime: str  # as `runtime.open_classifier` knows it
    folder: Path
    shipped: Path | None = None  # the folder whose bytes are its size, where that is not `folder`


def saved_variants(models: Path) -> list[Variant]:
    """Those that the pipeline keeps below `models`, in the order of `params.SAVED`: fp32, `qat`, then int8."""
    return [
        *(Variant(network, network, "torch", models / network) for network in NETWORKS),
        Variant("qat", "qat", "openvino", models / "qat"),
        *(
            Variant(f"{network}_{key}_int8", network, runtime, models / "ptq" / f"{network}_{key}_int8")
            for network in NETWORKS
            for key, runtime in INT8_RUNTIMES.items()
        ),
    ]


def saved_folder(name: str, models: Path = Path("models")) -> Path | None:
    """The folder of a variant below `models`; None where the pipeline keeps none."""
    return next((variant.folder for variant in saved_variants(models) if variant.name == name), None)


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
