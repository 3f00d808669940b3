"""The only loader of params.yaml: it checks the whole file against its schema and returns what a stage declares.

The file is read as YAML 1.2 (by ruamel.yaml, as in DVC), so that the `2e-05` that `dvc exp run -S` writes is a number.
"""

import difflib
import os
from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, get_type_hints

from pydantic import Field, ValidationError, create_model, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fincompress.core.data_sections import AgNewsParams, PrepareParams
from fincompress.core.errors import InputError
from fincompress.core.processes import processes
from fincompress.core.registry import PIPELINES, Pipeline
from fincompress.core.sections import (
    AG_NEWS_LABELS,
    FINANCIAL_LABELS,
    AugmentParams,
    BenchmarkParams,
    EvaluateParams,
    PlotsParams,
    PtqParams,
    ReportParams,
    Section,
    ShipParams,
    StudentParams,
    TrainingParams,
)
from fincompress.core.variants import measured_names, saved_names

_OUTPUTS = ("data", "models", "metrics", "plots")
"""Folders of what the stages write: DVC deletes what is in them before a stage runs."""
Needs = TypeVar("Needs")
"""A dataclass whose fields are what a stage reads from params.yaml: top-level keys, or others named by a `Key`."""


class AnyParams(Section):
    """What params.yaml has in every pipeline."""

    pipeline: str
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    benchmark: BenchmarkParams
    evaluate: EvaluateParams
    plots: PlotsParams
    report: ReportParams

    @model_validator(mode="after")
    def _opposites_are_labels(self):
        for label in self.evaluate.opposite_labels or ():
            if label not in self._labels():
                raise ValueError(
                    f"evaluate.opposite_labels: `{label}` is none of the labels {', '.join(self._labels())}; "
                    "name two of them, or null to count no reversals"
                )
        return self

    @model_validator(mode="after")
    def _outputs_are_mapped_to_labels(self):
        section = PIPELINES[self.pipeline].reference
        for output, label in (getattr(self, section).label_map or {}).items():
            if label not in self._labels():
                raise ValueError(
                    f"{section}.label_map: {output}: `{label}` is none of the labels {', '.join(self._labels())}"
                )
        return self

    @model_validator(mode="after")
    def _no_measured_length_is_cut(self):
        section = PIPELINES[self.pipeline].reference
        longest = getattr(self, section).max_length
        measured = {
            "benchmark.padded_length": [self.benchmark.padded_length],
            "benchmark.lengths": self.benchmark.lengths,
        }
        for key, lengths in measured.items():
            if max(lengths) > longest:
                raise ValueError(
                    f"{key}: {max(lengths)} is more than the {longest} word pieces that "
                    f"`{section}.max_length` cuts texts to"
                )
        return self

    @model_validator(mode="after")
    def _a_network_starts_from_an_earlier_one(self):
        pipeline = PIPELINES[self.pipeline]
        for network in pipeline.networks:
            source = getattr(getattr(self, network.name), "source", None)
            if source is not None and source not in (known := pipeline.sources(network.name)):
                raise ValueError(f"{network.name}.source: expected one of {', '.join(known)} (got {source!r})")
        return self

    @model_validator(mode="after")
    def _no_input_is_in_an_output(self):
        teacher = getattr(self, PIPELINES[self.pipeline].reference)
        checkpoint = f"{PIPELINES[self.pipeline].reference}.checkpoint"
        named = {"evaluate.extra": self.evaluate.extra, checkpoint: teacher.checkpoint}
        if isinstance(self, SideBySideParams):
            named |= {"kd.transfer": self.kd.transfer, "prepare.files.path": self.prepare.files.path}  # type: ignore[attr-defined]
            named |= {"student.init": self.student.init}
        for key, path in named.items():
            inside = os.path.relpath(os.path.realpath(path), os.path.realpath(".")).split(os.sep)[0]
            is_path = key not in (checkpoint, "student.init") or Path(path).exists()
            if inside in _OUTPUTS and is_path:
                raise ValueError(f"{key}: {path} is in {inside}/, which DVC empties; move it out of there")
        return self

    @model_validator(mode="after")
    def _measured_variants_exist(self):
        if self.benchmark.variants != "all":
            known = measured_names(PIPELINES[self.pipeline])
            _check_variants("benchmark.variants", self.benchmark.variants, known, "measures")
        return self

    @abstractmethod
    def _labels(self) -> list[str]:
        """Label names in id order."""


class SideBySideParams(AnyParams):
    """params.yaml of the main pipeline, which compares techniques side by side; each network adds its section."""

    pipeline: Literal["side_by_side"] = "side_by_side"
    prepare: PrepareParams
    student: StudentParams
    augment: AugmentParams
    ship: ShipParams

    @model_validator(mode="after")
    def _shipped_variants_are_kept(self):
        _check_variants("ship.variants", self.ship.variants, saved_names(PIPELINES[self.pipeline]), "keeps")
        return self

    @model_validator(mode="after")
    def _random_embeddings_are_trained(self):
        for section in ("kd", "ikd"):
            if self.student.init == "random" and getattr(self, section).freeze_word_embeddings:
                raise ValueError(
                    f"{section}.freeze_word_embeddings: with `student.init: random` there is nothing worth keeping; "
                    "set it to false, or start the student from a trained network"
                )
        return self

    def _labels(self) -> list[str]:
        return self.prepare.files.labels if self.prepare.source == "files" else FINANCIAL_LABELS


class StackedParams(AnyParams):
    """params.yaml of a pipeline that stacks techniques (`pipeline: stacked`); each network adds its section."""

    pipeline: Literal["stacked"]
    prepare: AgNewsParams

    def _labels(self) -> list[str]:
        return AG_NEWS_LABELS


def _check_variants(key: str, names: Collection[str], known: list[str], verb: str) -> None:
    """An error where `names`, the value of `key`, has one that the pipeline does not keep, or does not measure."""
    if unknown := [name for name in names if name not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"it {verb} {', '.join(known)}"
        raise ValueError(f"{key}: the pipeline {verb} no `{unknown[0]}`; {hint}")


def _with_networks(base: type[AnyParams], kind: str) -> type[AnyParams]:
    """`base` with a section for everything that the pipeline trains and converts."""
    pipeline = PIPELINES[kind]
    sections: dict[str, Any] = {network.name: (network.section, ...) for network in pipeline.networks}
    sections[pipeline.int8] = (PtqParams, ...)
    return create_model(base.__name__, __base__=base, **sections)


_BASES: tuple[type[AnyParams], ...] = (SideBySideParams, StackedParams)
SCHEMAS = {kind: _with_networks(base, kind) for kind, base in zip(PIPELINES, _BASES, strict=True)}
"""Value of the key `pipeline` (by default the first) -> the file's schema."""


@dataclass(frozen=True)
class Key:
    """Where a field is read from, if not from the key of the same name: `Annotated[list[str], Key("a.b")]`.

    `{section}` in the name stands for the section that the stage is given as an argument.
    """

    name: str


def keys_of(needs: type, section: str | None = None) -> dict[str, str]:
    """Field of a stage's needs -> the key of params.yaml that it is read from."""
    keys = {}
    for name, annotation in get_type_hints(needs, include_extras=True).items():
        given = [extra for extra in getattr(annotation, "__metadata__", ()) if isinstance(extra, Key)]
        keys[name] = given[0].name.format(section=section) if given else name
    return keys


def load_params(
    needs: type[Needs], section: str | None = None, *, seed: int | None = None, path: Path = Path("params.yaml")
) -> Needs:
    """Check the whole of params.yaml and return what a stage needs, and nothing else.

    A stage thus cannot read a key that its entry in dvc.yaml does not declare.

    Args:
        needs: a dataclass; each field is read from the key of the same name, or from the one that its `Key` names.
        section: the section that the stage is given as an argument, if any.
        seed: replaces the file's seed.

    Raises:
        InputError: one message with every offending key, its value and what was expected.
    """
    keys = keys_of(needs, section)
    params = checked_params(path, {name.split(".")[0] for name in keys.values()})
    if seed is not None:
        params = params.model_copy(update={"seed": seed})
    values = {name: reduce(getattr, source.split("."), params) for name, source in keys.items()}
    for name, value in values.items():
        if isinstance(value, TrainingParams) and value.batch_size % processes():
            raise InputError(
                f"{path}: {keys[name]}.batch_size: {value.batch_size} texts cannot be shared by {processes()} processes"
            )
    return needs(**values)


def checked_params(path: Path = Path("params.yaml"), sections: Collection[str] = ()) -> AnyParams:
    """The whole file, checked, for callers that need more of it than a stage; `sections` must exist.

    Raises:
        InputError: as `load_params`.
    """
    content = read_sections(path)
    kind = _kind(content, path)
    schema = SCHEMAS[kind]
    if absent := set(sections) - schema.model_fields.keys():
        raise InputError(f"{path}: a pipeline of kind {kind} has no section {', '.join(sorted(absent))}")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(problem, schema) for problem in error.errors())
        raise InputError(f"{path}: {problems}") from None


def pipeline_kind(path: Path = Path("params.yaml")) -> str:
    """The key of `SCHEMAS` that applies to a params.yaml.

    Raises:
        InputError: the file cannot be read, or names an unknown pipeline.
    """
    return _kind(read_sections(path), path)


def current_pipeline() -> Pipeline:
    """The pipeline of the params.yaml in the working directory."""
    return PIPELINES[pipeline_kind()]


def read_sections(path: Path, absent: str = "run from the folder that holds params.yaml") -> dict:
    """A YAML file of sections such as params.yaml, unchecked.

    Args:
        absent: what an error says to do, or to know, where there is no such file.

    Raises:
        InputError: the file cannot be read, or holds no sections.
    """
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; {absent}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise InputError(f"{path}: expected sections such as `kd:`, found {type(content).__name__}")
    return content


def _kind(content: dict, path: Path) -> str:
    kind = content.get("pipeline", next(iter(SCHEMAS)))
    if kind not in SCHEMAS:
        raise InputError(f"{path}: pipeline: expected one of {', '.join(SCHEMAS)}, or no such key (got {kind!r})")
    return kind


def _describe(problem: Mapping, schema: type[Section]) -> str:
    """Word one pydantic problem as `key: what is wrong (got value)`."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        model: Any = schema
        for part in problem["loc"][:-1]:
            model = model.model_fields[part].annotation
        near = difflib.get_close_matches(str(problem["loc"][-1]), model.model_fields, n=1)
        return f"{key}: unknown key" + (f"; did you mean `{near[0]}`?" if near else "")
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:  # a check across sections, whose message names the key
        return message
    return f"{key}: {message}" + ("" if problem["type"] == "value_error" else f" (got {problem['input']!r})")
