"""Typed schemas of params.yaml, one a kind of pipeline, and their one loader.

The file is read as YAML 1.2 (ruamel.yaml, as DVC does), so that the `2e-05` which `dvc exp run -S` writes
is a number. Types are strict: a quoted number, an unknown key or a value out of range is an error.
"""

import difflib
from functools import reduce
from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from fincompress.distributed import processes
from fincompress.errors import InputError

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]
Network = Literal["teacher", "kd", "ikd", "prune30", "prune50"]
NETWORKS = get_args(Network)
"""What the pipeline trains in fp32, and quantises."""
INT8_RUNTIMES = {"ov": "openvino", "ort": "onnxruntime"}
"""Suffix of an int8 variant's name -> the runtime it is for."""
SAVED = (*NETWORKS, "qat", *(f"{network}_{key}_int8" for network in NETWORKS for key in INT8_RUNTIMES))
"""Every variant that the pipeline keeps a folder of."""
FINANCIAL_LABELS = ["negative", "neutral", "positive"]
"""Those of the embedded corpus and of the home case, in id order."""
AG_NEWS_LABELS = ["World", "Sports", "Business", "Sci/Tech"]
"""Those of AG News, in id order."""


class Section(BaseModel):
    """A mapping in params.yaml: no unknown keys, no coerced types, no changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class FilesParams(Section):
    """Where `prepare.source: files` finds its rows."""

    path: Name
    text_column: Name
    label_column: Name
    source_column: Name | None
    phenomenon_column: Name | None
    labels: Annotated[list[Name], Field(min_length=2)]

    @model_validator(mode="after")
    def _labels_are_distinct(self):
        if len({label.casefold() for label in self.labels}) < len(self.labels):
            raise ValueError("labels must differ from one another, whatever their case")
        return self


class PhrasebankParams(Section):
    """Where `prepare.source: financial` finds Financial PhraseBank; no path means the hub."""

    path: Name | None
    repository: Name
    revision: Name
    agreement: Literal["all", 75, 66, 50]


class FiqaParams(Section):
    """Where `prepare.source: financial` finds FiQA-2018 (no path means the hub), and how scores become labels."""

    path: Name | None
    repository: Name
    revision: Name
    positive_above: Annotated[float, Field(ge=-1, le=1)]
    negative_below: Annotated[float, Field(ge=-1, le=1)]

    @model_validator(mode="after")
    def _thresholds_are_in_order(self):
        if self.negative_below > self.positive_above:
            raise ValueError(
                f"negative_below ({self.negative_below}) must not be over positive_above ({self.positive_above})"
            )
        return self


class SplitParams(Section):
    """Shares of the rows held out."""

    val: Annotated[float, Field(gt=0, lt=1)]
    test: Annotated[float, Field(gt=0, lt=1)]

    @model_validator(mode="after")
    def _training_rows_remain(self):
        if self.val + self.test >= 1:
            raise ValueError("val + test must be below 1, or no training rows remain")
        return self


class PrepareParams(Section):
    """The `prepare` stage."""

    source: Literal["embedded", "files", "financial"]
    files: FilesParams
    phrasebank: PhrasebankParams
    fiqa: FiqaParams
    split: SplitParams
    exclude_from_test: list[Name]
    max_rows: Annotated[int, Field(ge=1)] | None


class AgNewsParams(Section):
    """The `prepare` stage of a recipe on AG News; no path means the hub. The test rows are the official ones."""

    source: Literal["ag_news"]
    path: Name | None
    repository: Name
    revision: Name
    val: Annotated[float, Field(gt=0, lt=1)]
    max_train_rows: Annotated[int, Field(ge=1)] | None


class TrainingParams(Section):
    """What every training stage has."""

    epochs: Annotated[int, Field(ge=0)]
    patience: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Fraction
    dropout: Annotated[float, Field(ge=0, lt=1)] | None
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]


class TeacherParams(TrainingParams):
    """The `teacher` stage."""

    checkpoint: Name
    revision: Name
    trained_on: list[Name]
    max_length: Annotated[int, Field(ge=8)]


class StudentParams(Section):
    """The shape and the start of the distilled student."""

    layers: Annotated[int, Field(ge=1)]
    layer_selection: Literal["first", "evenly_spaced"]
    hidden_size: Annotated[int, Field(ge=1)]
    attention_heads: Annotated[int, Field(ge=1)]
    intermediate_size: Annotated[int, Field(ge=1)]
    init: Name
    revision: Name

    @model_validator(mode="after")
    def _heads_divide_the_width(self):
        if self.hidden_size % self.attention_heads:
            raise ValueError(f"attention_heads ({self.attention_heads}) must divide hidden_size ({self.hidden_size})")
        return self


class SoftLabelParams(TrainingParams):
    """What every stage that learns from the teacher's soft labels has (Hinton et al. 2015)."""

    temperature: Annotated[float, Field(gt=0, le=100)]
    alpha: Fraction


class KdParams(SoftLabelParams):
    """The `kd` stage; `ikd` reads `transfer` too."""

    transfer: list[Name]


class IkdParams(SoftLabelParams):
    """The `ikd` stage (Jiao et al. 2020)."""

    lambda_hidden: Annotated[float, Field(ge=0)]
    lambda_attention: Annotated[float, Field(ge=0)]
    layer_map: Annotated[dict[int, int], Field(min_length=1)] | None


class PruneParams(TrainingParams):
    """What every stage that removes heads has; `epochs` are those of the recovery after each round."""

    heads_fraction: Annotated[float, Field(gt=0, lt=1)]
    heads_per_round: Annotated[float, Field(gt=0, le=1)]
    ffn_fraction: Annotated[float, Field(ge=0, lt=1)]
    importance: Literal["entropy", "attention", "magnitude", "gradient", "random"]
    importance_batches: Annotated[int, Field(ge=1)] | None


class FirstPruneParams(PruneParams):
    """The stage `prune30`."""

    source: Literal["teacher", "kd", "ikd"]


class FurtherPruneParams(PruneParams):
    """The stage `prune50`, which can also go on where `prune30` ended."""

    source: Literal["teacher", "kd", "ikd", "prune30"]


class SparsePruneParams(PruneParams):
    """The stage `prune` of a stacked recipe, which also sets single weights to zero."""

    source: Literal["baseline"]
    amount: Annotated[float, Field(ge=0, lt=1)]


class QuantizationParams(Section):
    """What both ways to int8 have."""

    calibration_samples: Annotated[int, Field(ge=1)]
    keep_classifier_float: bool


class PtqParams(QuantizationParams):
    """The `ptq` stage, and `quantize` of a stacked recipe."""


class QatParams(SoftLabelParams, QuantizationParams):
    """The `qat` stage; the soft labels are the teacher's, whatever the source."""

    source: Network


class BenchmarkParams(Section):
    """The `benchmark` stage."""

    runs: Annotated[int, Field(ge=1)]
    warmups: Annotated[int, Field(ge=0)]
    rounds: Annotated[int, Field(ge=1)]
    threads: Annotated[int, Field(ge=1)]
    padded_length: Annotated[int, Field(ge=8)]
    batch_size: Annotated[int, Field(ge=1)]
    lengths: Annotated[list[Annotated[int, Field(ge=8)]], Field(min_length=1)]
    batch_sizes: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    cold_starts: Annotated[int, Field(ge=0)]
    load_threshold: Annotated[float, Field(gt=0, le=1)]
    max_repeats: Annotated[int, Field(ge=0)]

    @model_validator(mode="after")
    def _every_round_has_a_run(self):
        if self.runs < self.rounds:
            raise ValueError(f"runs ({self.runs}) must be at least rounds ({self.rounds})")
        return self


class EvaluateParams(Section):
    """What `benchmark` makes of predictions, and what it scores besides the test split."""

    extra: list[Name]
    opposite_labels: Annotated[list[Name], Field(min_length=2, max_length=2)] | None
    bootstrap_resamples: Annotated[int, Field(ge=100)]


class PlotsParams(Section):
    """The `plots` stage."""

    dpi: Annotated[int, Field(ge=50, le=600)]
    latency: Literal["real", "padded"]


class ReportParams(Section):
    """What tables, page and model cards say beside the measurements."""

    margin: Fraction
    price_per_core_hour: Annotated[float, Field(ge=0)]
    sentences: bool


class ShipParams(Section):
    """The `ship` stage."""

    variants: Annotated[list[Literal[SAVED]], Field(min_length=1)]
    license: Name | None


class AnyParams(Section):
    """What the params.yaml of every pipeline has."""

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
    def _no_measured_length_is_cut(self):
        section = self._longest_in()
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


class Params(AnyParams):
    """The whole of params.yaml where techniques are compared side by side, as at the project's top."""

    pipeline: Literal["side_by_side"] = "side_by_side"
    prepare: PrepareParams
    teacher: TeacherParams
    student: StudentParams
    kd: KdParams
    ikd: IkdParams
    prune30: FirstPruneParams
    prune50: FurtherPruneParams
    qat: QatParams
    ptq: PtqParams
    ship: ShipParams

    def _labels(self) -> list[str]:
        return self.prepare.files.labels if self.prepare.source == "files" else FINANCIAL_LABELS

    def _longest_in(self) -> str:
        return "teacher"


class StackedParams(AnyParams):
    """The whole of params.yaml where techniques are stacked: `pipeline: stacked`, as in recipes/."""

    pipeline: Literal["stacked"]
    prepare: AgNewsParams
    baseline: TeacherParams
    prune: SparsePruneParams
    recover: SoftLabelParams
    quantize: PtqParams

    def _labels(self) -> list[str]:
        return AG_NEWS_LABELS

    def _longest_in(self) -> str:
        return "baseline"


SCHEMAS = {"side_by_side": Params, "stacked": StackedParams}
"""Value of the key `pipeline` (the first where it is missing) -> the file's schema."""


def load_params(*names: str, seed: int | None = None, path: Path = Path("params.yaml")) -> SimpleNamespace:
    """Check the whole of params.yaml and return what is named, and nothing else, under the last part of its name.

    A stage thus cannot read a key that its entry in dvc.yaml does not declare.

    Args:
        names: top-level sections (`kd`), or single keys of one (`kd.transfer`).
        seed: replaces the file's seed.

    Raises:
        InputError: one message with every offending key, its value and what was expected.
    """
    content = _read(path)
    kind = _kind(content, path)
    schema = SCHEMAS[kind]
    if absent := {name.split(".")[0] for name in names} - schema.model_fields.keys():
        raise InputError(f"{path}: a pipeline of kind {kind} has no section {', '.join(sorted(absent))}")
    try:
        params = schema.model_validate(content)
    except ValidationError as error:
        problems = "; ".join(_describe(problem, schema) for problem in error.errors())
        raise InputError(f"{path}: {problems}") from None
    if seed is not None:
        params = params.model_copy(update={"seed": seed})
    named = {name.split(".")[-1]: reduce(getattr, name.split("."), params) for name in names}
    for name, section in named.items():
        if isinstance(section, TrainingParams) and section.batch_size % processes():
            raise InputError(
                f"{path}: {name}.batch_size: {section.batch_size} texts cannot be shared by {processes()} processes"
            )
    return SimpleNamespace(**named)


def pipeline_kind(path: Path = Path("params.yaml")) -> str:
    """The key of `SCHEMAS` that a params.yaml goes by.

    Raises:
        InputError: it cannot be read, or names another.
    """
    return _kind(_read(path), path)


def _read(path: Path) -> dict:
    try:
        content = YAML(typ="safe").load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}: not found; run from the folder that holds params.yaml") from None
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


def _describe(problem: dict, schema: type[Section]) -> str:
    """Word one pydantic problem as `key: what is wrong (got value)`."""
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        model = schema
        for part in problem["loc"][:-1]:
            model = model.model_fields[part].annotation
        near = difflib.get_close_matches(str(problem["loc"][-1]), model.model_fields, n=1)
        return f"{key}: unknown key" + (f"; did you mean `{near[0]}`?" if near else "")
    if problem["type"] == "missing":
        return f"{key}: missing"
    message = problem["msg"].removeprefix("Value error, ")
    if not key:  # the check of a key against another section's, which names it
        return message
    return f"{key}: {message}" + ("" if problem["type"] == "value_error" else f" (got {problem['input']!r})")
