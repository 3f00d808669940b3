"""The sections of params.yaml, with the type and range of every key.

Types are strict: a quoted number, an unknown key or a value out of range is an error.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
Name = Annotated[str, Field(min_length=1)]
Importance = Literal["entropy", "attention", "magnitude", "gradient", "fisher", "random"]
"""How heads are scored before the least important go."""


def _path(value: object) -> str:
    if isinstance(value, str) and value:
        return value
    lists = "; put several files into one folder, and name that" if isinstance(value, list) else ""
    raise ValueError(f"expected the path of a file or a folder{lists} (got {value!r})")


InputPath = Annotated[str, PlainValidator(_path)]
"""A file or folder that DVC tracks, which must be there; a folder without data says nothing."""
FINANCIAL_LABELS = ["negative", "neutral", "positive"]
"""Labels of the embedded corpus and of the financial data sets, in id order."""
AG_NEWS_LABELS = ["World", "Sports", "Business", "Sci/Tech"]
"""Labels of AG News, in id order."""


class Section(BaseModel):
    """A mapping in params.yaml: no unknown keys, no coerced types, no changes after loading."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)


class TrainingParams(Section):
    """Keys of every training stage."""

    epochs: Annotated[int, Field(ge=0)]
    patience: Annotated[int, Field(ge=1)]
    batch_size: Annotated[int, Field(ge=1)]
    learning_rate: Annotated[float, Field(gt=0, le=1)]
    weight_decay: Fraction
    dropout: Annotated[float, Field(ge=0, lt=1)] | None
    freeze_word_embeddings: bool
    warmup_ratio: Annotated[float, Field(ge=0, lt=1)]
    class_weights: Literal["balanced"] | None = None


class TeacherParams(TrainingParams):
    """The `teacher` stage."""

    checkpoint: Name
    revision: Name
    trained_on: list[Name]
    label_map: Annotated[dict[Name, Name], Field(min_length=1)] | None = None
    max_length: Annotated[int, Field(ge=8)]

    @model_validator(mode="after")
    def _no_label_is_mapped_twice(self):
        named = list((self.label_map or {}).values())
        if twice := sorted({label for label in named if named.count(label) > 1}):
            raise ValueError(f"label_map: {', '.join(twice)} stands for several outputs; name one for each label")
        return self


class StudentParams(Section):
    """The distilled student's shape, and what it starts from."""

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
    """Keys of every stage that learns from the teacher's soft labels (Hinton et al. 2015)."""

    temperature: Annotated[float, Field(gt=0, le=100)]
    alpha: Fraction


class KdParams(SoftLabelParams):
    """The `kd` stage; `ikd` reads `transfer` too."""

    transfer: InputPath


class IkdParams(SoftLabelParams):
    """The `ikd` stage (Jiao et al. 2020)."""

    attention: Literal["scores", "probabilities"]
    lambda_hidden: Annotated[float, Field(ge=0)]
    lambda_attention: Annotated[float, Field(ge=0)]
    lambda_embedding: Annotated[float, Field(ge=0)]
    layer_map: Annotated[dict[int, int], Field(min_length=1)] | None


class ScoringParams(TrainingParams):
    """Keys of every stage that scores heads and neurons."""

    importance: Importance
    importance_batches: Annotated[int, Field(ge=1)] | None


class PruneParams(ScoringParams):
    """A stage that removes heads from the network `source`; `epochs` are those of the recovery after each round."""

    source: Name
    heads_fraction: Annotated[float, Field(gt=0, lt=1)]
    heads_per_round: Annotated[float, Field(gt=0, le=1)]
    ffn_fraction: Annotated[float, Field(ge=0, lt=1)]


class SparsePruneParams(PruneParams):
    """The stage `prune` of a stacked recipe, which also sets single weights to zero."""

    amount: Annotated[float, Field(ge=0, lt=1)]


class AugmentParams(Section):
    """The `augment` stage; it reads `kd.transfer` too."""

    variants: Annotated[int, Field(ge=0)]


class TinyParams(SoftLabelParams, ScoringParams):
    """The `tiny` stage: the network that it starts from, what it keeps of that, and its losses."""

    source: Name
    layers: Annotated[int, Field(ge=1)]
    layer_selection: Literal["first", "evenly_spaced"]
    attention_heads: Annotated[int, Field(ge=1)]
    intermediate_size: Annotated[int, Field(ge=1)]
    vocabulary_min_count: Annotated[int, Field(ge=1)] | None
    embedding_size: Annotated[int, Field(ge=2)] | None
    lambda_hidden: Annotated[float, Field(ge=0)]

    @model_validator(mode="after")
    def _new_embeddings_are_trained(self):
        if self.embedding_size is not None and self.freeze_word_embeddings:
            raise ValueError(
                "freeze_word_embeddings: an embedding of another size has to be trained; set it to false, "
                "or embedding_size to null"
            )
        return self


class QuantizationParams(Section):
    """Keys of both ways to int8."""

    calibration_samples: Annotated[int, Field(ge=1)]
    keep_classifier_float: bool


class PtqParams(QuantizationParams):
    """The `ptq` stage, and `quantize` of a stacked recipe."""

    embedding_group: Annotated[int, Field(ge=1, le=16)] | None


class QatParams(SoftLabelParams, QuantizationParams):
    """The `qat` stage; the soft labels are the teacher's, whatever the source."""

    source: Name


def _all_or_names(value: object) -> object:
    """An error in one piece, where pydantic would tell one for each type that it might have been."""
    names = isinstance(value, list) and value and all(isinstance(name, str) and name for name in value)
    if value != "all" and not names:
        raise ValueError(f"expected all, or a list of variants such as [kd, kd_ort_int8] (got {value!r})")
    return value


class BenchmarkParams(Section):
    """The `benchmark` stage."""

    variants: Annotated[Literal["all"] | list[Name], BeforeValidator(_all_or_names)]
    runs: Annotated[int, Field(ge=1)]
    warmups: Annotated[int, Field(ge=0)]
    rounds: Annotated[int, Field(ge=1)]
    side_rounds: Annotated[int, Field(ge=1)]
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

    @model_validator(mode="after")
    def _side_rounds_are_rounds(self):
        if self.side_rounds > self.rounds:
            raise ValueError(f"side_rounds ({self.side_rounds}) must be at most rounds ({self.rounds})")
        return self


class EvaluateParams(Section):
    """How `benchmark` judges predictions, and what it scores besides the test split."""

    extra: InputPath
    opposite_labels: Annotated[list[Name], Field(min_length=2, max_length=2)] | None
    bootstrap_resamples: Annotated[int, Field(ge=100)]


class PlotsParams(Section):
    """The `plots` stage."""

    dpi: Annotated[int, Field(ge=50, le=600)]
    latency: Literal["real", "padded"]


class ReportParams(Section):
    """What tables, page and model cards say besides the measurements."""

    margin: Fraction
    price_per_core_hour: Annotated[float, Field(ge=0)]
    sentences: bool


class ShipParams(Section):
    """The `ship` stage."""

    variants: Annotated[list[Name], Field(min_length=1)]
    license: Name | None
