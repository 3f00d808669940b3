"""Groups of rows where there are many: the largest keep their name, the others share one."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

MOST_GROUPS = 20
"""Values of a group that have scores of their own; where there are more, the smaller ones share a row."""
OTHERS = "others"


def largest(values: "pd.Series", most: int = MOST_GROUPS) -> "pd.Series":
    """`values` with all but the `most` frequent ones replaced by `OTHERS`; empty ones stay, and do not count.

    Ties go to the value that comes first in the alphabet. A frequent value of that very name stays apart from the rest.
    """
    counts = values[values != ""].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    if len(counts) <= most:
        return values
    kept = counts.index[:most]
    rest = OTHERS if OTHERS not in kept else f"all {OTHERS}"
    return values.where(values.isin(kept) | (values == ""), rest)
