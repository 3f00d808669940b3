"""What the project knows of every network: one entry each, read by all who tell them apart.

A further network is an entry in its pipeline, a section in params.yaml and a stage in dvc.yaml. The runtimes that
networks are converted for have a table of their own, `core.runtimes`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from fincompress.core.runtimes import INT8_RUNTIMES, converted_name
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


@dataclass(frozen=True)
class Network:
    """A network that a pipeline trains: a stage, a section of params.yaml and a folder below models/ of its name."""

    name: str
    section: type[Section]
    made_by: str  # for model cards
    stage: str = ""  # the module of stages/ that trains it and is given its name; empty: the one of its name
    runtime: str = "torch"  # that its folder is for
    quantized: bool = True  # after training, for all of `INT8_RUNTIMES`
    torch_int8: bool = False  # measured in PyTorch's own int8 as well, for comparison

    @property
    def command(self) -> tuple[str, ...]:
        """What follows `python -m` to train it."""
        return (f"stages.{self.stage}", self.name) if self.stage else (f"stages.{self.name}",)


@dataclass(frozen=True)
class Pipeline:
    """What a pipeline trains and converts."""

    networks: tuple[Network, ...]  # in an order in which they can be trained; all are compared with the first
    int8: str  # section of params.yaml, stage and folder below models/ of what is converted to int8

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

    def network(self, name: str) -> Network:
        """The network of a name."""
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
"""Value of the key `pipeline` of params.yaml (the first where it is missing) -> what that pipeline makes."""


def pipeline_of(variants: Collection[str]) -> Pipeline:
    """The pipeline that these variants are of."""
    return next(pipeline for pipeline in PIPELINES.values() if pipeline.reference in variants)
