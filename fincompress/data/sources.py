"""Where labelled texts come from: the embedded corpus, published data sets, or the user's own files.

Every source returns frames with the columns `id, text, label, source, phenomenon` (all strings), uncleaned. To add a
source, write a function that returns such a frame and add a branch to `read_source`.
"""

from dataclasses import dataclass, field
from importlib import resources

import pandas as pd

from fincompress.core.data_sections import AgNewsParams, PrepareParams
from fincompress.core.sections import AG_NEWS_LABELS, FINANCIAL_LABELS
from fincompress.data import ag_news, financial
from fincompress.data.readers import COLUMNS, read_files
from fincompress.data.splits import clean, clean_own_splits, own_splits, split, split_training, without


@dataclass(frozen=True)
class Source:
    """What was read, with the columns `COLUMNS`."""

    rows: pd.DataFrame
    labels: list[str]  # names in id order
    origins: dict[str, dict] = field(default_factory=dict)  # for each data set that neither Git nor DVC tracks
    test: pd.DataFrame | None = None  # the test split of a data set that comes with one; not part of `rows`


def read_source(params: PrepareParams | AgNewsParams) -> Source:
    """Read the configured source.

    Raises:
        InputError: names the file and row that cannot be used.
    """
    if params.source == "embedded":
        return Source(read_embedded(), FINANCIAL_LABELS)
    if params.source == "financial":
        rows, origins = financial.read_financial(params.phrasebank, params.fiqa)
        return Source(rows, FINANCIAL_LABELS, origins)
    if params.source == "ag_news":
        rows, test, origins = ag_news.read_ag_news(params)
        return Source(rows, AG_NEWS_LABELS, origins, test)
    return Source(read_files(params.files), params.files.labels)


def read_embedded() -> pd.DataFrame:
    """The corpus inside the package; its styles (newswire, headline, post, …) become the sources."""
    with resources.as_file(resources.files("fincompress") / "data" / "corpus" / "sentences.csv") as path:
        frame = pd.read_csv(path, dtype=str)
    return frame.rename(columns={"style": "source"})[COLUMNS]


def divide(
    source: Source, params: PrepareParams | AgNewsParams, seed: int
) -> tuple[dict[str, pd.DataFrame], dict[str, int]]:
    """The rows of a source cleaned and split as params say, or as they come.

    Returns:
        The splits by name, and how many rows were dropped and why (see `splits.clean`).
    """
    if isinstance(params, PrepareParams) and params.own_splits:
        frame, dropped = clean_own_splits(source.rows)
        return own_splits(frame, source.labels, params.max_rows, seed), dropped
    frame, dropped = clean(source.rows)
    if isinstance(params, PrepareParams):
        return split(frame, source.labels, params, seed), dropped
    assert source.test is not None, "AG News comes with its test rows"
    training = without(frame, source.test)
    dropped["in_test"] = len(frame) - len(training)
    return {**split_training(training, source.labels, params, seed), "test": source.test}, dropped
