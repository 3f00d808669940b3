"""Variants: a trained network in the format of one runtime, under the same name everywhere."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from fincompress.core.registry import PIPELINES, Pipeline, pipeline_of
from fincompress.core.runtimes import FLOOR, INT8_RUNTIMES, RUNTIMES, Runtime, converted_name


@dataclass(frozen=True)
class Variant:
    """A model as it would be shipped."""

    name: str  # of its file in metrics/variants
    network: str  # the trained network it holds
    runtime: str  # a key of `core.runtimes.RUNTIMES`
    folder: Path
    shipped: Path | None = None  # the folder whose bytes count as its size, if not `folder`


def reference_of(names: Collection[str]) -> str:
    """The variant among these, all of one pipeline, that the others are compared with."""
    return pipeline_of(names).reference


def saved_variants(models: Path, pipeline: Pipeline) -> list[Variant]:
    """The variants that a pipeline keeps below `models`: as trained, then converted to int8."""
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


def saved_folder(name: str, pipeline: Pipeline, models: Path = Path("models")) -> Path | None:
    """The folder of a variant below `models`; None if the pipeline keeps none."""
    variants = saved_variants(models, pipeline)
    return next((variant.folder for variant in variants if variant.name == name), None)


def measured_variants(models: Path, folder: Path, pipeline: Pipeline) -> list[Variant]:
    """Every variant that is measured: the saved ones, and those that `benchmark` makes in `folder` for comparison.

    The latter are the reference network in fp32 for each runtime, networks in PyTorch's own int8, and the floor.
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


def saved_names(pipeline: Pipeline) -> list[str]:
    """The names of `saved_variants`."""
    return [variant.name for variant in saved_variants(Path(), pipeline)]


def measured_names(pipeline: Pipeline) -> list[str]:
    """The names of `measured_variants`."""
    return [variant.name for variant in measured_variants(Path(), Path(), pipeline)]


def chosen_variants(variants: list[Variant], chosen: str | Collection[str]) -> list[Variant]:
    """Those that `benchmark.variants` names, in their order; the reference too, as all are compared with it.

    Args:
        variants: all that can be measured.
        chosen: names of some, or `all`.
    """
    if chosen == "all":
        return variants
    wanted = {*chosen, reference_of([variant.name for variant in variants])}
    return [variant for variant in variants if variant.name in wanted]


def _parts(variant: str) -> tuple[str, Runtime | None]:
    """The network that a variant's name stands for, and the runtime it was converted for, if any."""
    for runtime in RUNTIMES.values():
        for precision in ("int8", "fp32"):
            if runtime.key and variant.endswith(ending := converted_name("", runtime, precision)):
                return variant.removesuffix(ending), runtime
    return variant, None


def network_of(variant: str) -> str:
    """The network that a variant's name stands for: `kd` for `kd_ort_int8`."""
    return _parts(variant)[0]


def runtime_of_variant(variant: str) -> Runtime:
    """The runtime that a variant's name stands for."""
    network, runtime = _parts(variant)
    if runtime:
        return runtime
    trained = {entry.name: entry.runtime for pipeline in PIPELINES.values() for entry in pipeline.networks}
    return RUNTIMES[FLOOR if network == FLOOR else trained.get(network, "torch")]
