"""The sections of params.yaml that say where texts come from and how they are split; see `sections`."""

from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from fincompress.core.sections import Name, Section


def _column(value: object) -> str | int:
    is_name = isinstance(value, str) and value != ""
    is_place = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    if isinstance(value, str | int) and (is_name or is_place):
        return value
    raise ValueError(f"expected the name of a column, or its place from 0 (got {value!r})")


Column = Annotated[str | int, PlainValidator(_column)]  # a union would report what is wrong for each of its members
"""A column of a table by its name, or by its place where the table has no header."""


class FilesParams(Section):
    """Where `prepare.source: files` finds its rows."""

    path: Name
    files_are_splits: bool = False
    encoding: Name | None = None
    header: bool = True
    text_column: Column
    label_column: Column
    source_column: Column | None
    phenomenon_column: Column | None
    group_column: Column | None = None
    split_column: Column | None = None
    labels: Annotated[list[Name], Field(min_length=2)]

    @property
    def own_splits(self) -> bool:
        """Whether the files say which split a row is in."""
        return self.split_column is not None or self.files_are_splits

    @model_validator(mode="after")
    def _labels_are_distinct_and_the_encoding_is_known(self):
        if len({label.casefold() for label in self.labels}) < len(self.labels):
            raise ValueError("labels must differ from one another, whatever their case")
        try:
            "".encode(self.encoding or "utf-8")
        except (LookupError, UnicodeError):
            raise ValueError(f"encoding: {self.encoding!r} is none that Python knows, such as cp1252") from None
        return self

    @model_validator(mode="after")
    def _columns_have_names_or_places(self):
        kind, should = (str, "a name") if self.header else (int, "a place, counted from 0, as header is false")
        for key in ("text", "label", "source", "phenomenon", "group", "split"):
            column = getattr(self, f"{key}_column")
            if column is not None and not isinstance(column, kind):
                raise ValueError(f"{key}_column: expected {should} (got {column!r})")
        return self

    @model_validator(mode="after")
    def _splits_are_said_in_one_way(self):
        if sum([self.split_column is not None, self.files_are_splits, self.group_column is not None]) > 1:
            raise ValueError("split_column, files_are_splits and group_column exclude one another; choose one")
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
    """Shares of rows to hold out."""

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

    @property
    def own_splits(self) -> bool:
        """Whether the data come with splits of their own."""
        return self.source == "files" and self.files.own_splits

    @model_validator(mode="after")
    def _own_splits_are_kept(self):
        if self.own_splits and self.exclude_from_test:
            raise ValueError(
                "exclude_from_test: the files say themselves which rows are in the test split; set it to []"
            )
        return self


class AgNewsParams(Section):
    """The `prepare` stage of a recipe on AG News; no path means the hub. The test rows are the official ones."""

    source: Literal["ag_news"]
    path: Name | None
    repository: Name
    revision: Name
    val: Annotated[float, Field(gt=0, lt=1)]
    max_train_rows: Annotated[int, Field(ge=1)] | None
