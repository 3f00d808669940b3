"""Where labelled texts come from: the embedded corpus, the home case's data sets, or the user's own files.

Every source returns one frame with the columns `id, text, label, source, phenomenon` (all strings),
uncleaned. A further source is a function that returns such a frame and a branch in `read_source`.
"""

from importlib import resources

import pandas as pd

from fincompress import financial
from fincompress.params import FINANCIAL_LABELS, PrepareParams
from fincompress.textfiles import COLUMNS, read_files


def read_source(params: PrepareParams) -> tuple[pd.DataFrame, list[str], dict[str, dict]]:
    """Read the configured source.

    Returns:
        The rows (columns `COLUMNS`), the label names in id order, and the origin of each data set that was fetched
        from outside the project (none for the others: Git and DVC have their bytes).

    Raises:
        InputError: naming the file and row that cannot be used.
    """
    if params.source == "embedded":
        return read_embedded(), FINANCIAL_LABELS, {}
    if params.source == "financial":
        frame, origins = financial.read_financial(params.phrasebank, params.fiqa)
        return frame, FINANCIAL_LABELS, origins
    return read_files(params.files), params.files.labels, {}


def read_embedded() -> pd.DataFrame:
    """The corpus inside the package; its styles (newswire, headline, post, …) become the sources."""
    with resources.as_file(resources.files("fincompress") / "corpus" / "sentences.csv") as path:
        frame = pd.read_csv(path, dtype=str)
    return frame.rename(columns={"style": "source"})[COLUMNS]
