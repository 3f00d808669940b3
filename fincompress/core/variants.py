"""What a variant is: a trained network in the format of one runtime, with one name everywhere."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fincompress.core.params import pipeline_kind
from fincompress.core.registry import PIPELINES, Pipeline, pipeline_of
from fincompress.core.runtimes import INT8_RUNTIMES, RUNTIMES, Runtime, converted_name

FLOOR = "bag_of_words"
"""The variant that all others should beat; its network and its runtime are called so too."""


@dataclass(frozen=True)
class Variant:
    """A model as it would be shipped."""

    name: str  # of its file in metrics/variants
    network: str  # the trained network it holds
    runtime: str  # a key of `core.runtimes.RUNTIMES`
    folder: Path
    shipped: Path | None = None  # the folder whose bytes are its size, where that is not `folder`


def current_pipeline() -> Pipeline:
    """The pipeline of the params.yaml in the working directory."""
    return PIPELINES[pipeline_kind()]


def reference_of(names: Collection[str]) -> str:
    """Which of these variants, all of one pipeline, the others are compared with."""
    return pipeline_of(names).reference


def saved_variants(models: Path, pipeline: Pipeline) -> list[Variant]:
    """Those that a pipeline keeps below `models`: as trained, then converted to int8."""
    return [
        *(Variant(network.name, network.name, network.runtime, models / network.name) for network in pipeline.networks),
        *(
            Variant(name, network.name, runtime.name, models / pipeline.int8 / name)
            for network in pipeline.networks
            if network.quantized
            for runtime in INT8_RUNTIMES
            for name in [converted_name(network.name, runtime, "int8")]
        ),
    ]


def saved_folder(name: str, models: Path = Path("models")) -> Path | None:
    """The folder of a variant below `models`; None where the pipeline keeps none."""
    variants = saved_variants(models, current_pipeline())
    return next((variant.folder for variant in variants if variant.name == name), None)


def measured_variants(models: Path, folder: Path, pipeline: Pipeline) -> list[Variant]:
    """Every variant that is compared: the saved ones, and those that `benchmark` makes in `folder` to compare with.

    Those are the reference network in fp32 for each runtime, networks in PyTorch's own int8, and the floor.
    """
    fp32 = [
        Variant(name, pipeline.reference, runtime.name, folder / name)
        for runtime in RUNTIMES.values()
        if runtime.to_fp32
        for name in [converted_name(pipeline.reference, runtime, "fp32")]
    ]
    in_torch = [
        Variant(name, network.name, "torch_int8", models / network.name, shipped=folder / name)
        for network in pipeline.networks
        if network.torch_int8
        for name in [converted_name(network.name, RUNTIMES["torch_int8"], "int8")]
    ]
    return [*saved_variants(models, pipeline), *fp32, *in_torch, Variant(FLOOR, FLOOR, FLOOR, folder / FLOOR)]


def _parts(variant: str) -> tuple[str, Runtime | None]:
    """The network a variant holds, by its name, and the runtime it was converted for, if it was."""
    for runtime in RUNTIMES.values():
        for precision in ("int8", "fp32"):
            if runtime.key and variant.endswith(ending := converted_name("", runtime, precision)):
                return variant.removesuffix(ending), runtime
    return variant, None


def network_of(variant: str) -> str:
    """The network a variant holds, by its name: `kd_ort_int8` holds `kd`."""
    return _parts(variant)[0]


def runtime_of_variant(variant: str) -> Runtime:
    """The runtime that a variant is for, by its name."""
    network, runtime = _parts(variant)
    if runtime:
        return runtime
    trained = {entry.name: entry.runtime for pipeline in PIPELINES.values() for entry in pipeline.networks}
    return RUNTIMES[FLOOR if network == FLOOR else trained.get(network, "torch")]
