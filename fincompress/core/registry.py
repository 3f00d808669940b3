"""What the project knows of every network: one entry each, read by all who tell them apart.

A further network is an entry in its pipeline, a section in params.yaml and a stage in dvc.yaml. The runtimes that
networks are converted for have a table of their own, `core.runtimes`.
"""

from collections.abc import Collection
from dataclasses import dataclass

from fincompress.core.sections import (
    IkdParams,
    KdParams,
    PruneParams,
    QatParams,
    Section,
    SoftLabelParams,
    SparsePruneParams,
    TeacherParams,
    TinyParams,
)


@dataclass(frozen=True)
class Network:
    """A network that a pipeline trains. Its stage, params.yaml section and folder below models/ all have its name."""

    name: str
    section: type[Section]
    made_by: str  # for model cards
    stage: str = ""  # the module in stages/ that takes its name as an argument; empty: its own
    prepared_by: str = ""  # a stage that has to run before its own, and writes below models/ too
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
                "tiny",
                TinyParams,
                "a student with fewer heads, neurons and word pieces, distilled on the teacher's answers to the "
                "training texts and to variants of them",
                prepared_by="augment",
            ),
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
