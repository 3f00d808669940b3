"""How good the best variant is at what: its accuracy by phenomenon and by source of the test rows."""

import pandas as pd

from fincompress.core.groups import MOST_GROUPS, OTHERS
from fincompress.core.runtimes import FLOOR
from fincompress.report.results import Results

NAMED = 2  # groups at each end, in a sentence


def largest_counts(counts: dict[str, int]) -> dict[str, int]:
    """Name -> rows, all but the `MOST_GROUPS` largest of which are one entry, such as `180 others`."""
    if len(counts) <= MOST_GROUPS:
        return counts
    order = sorted(counts, key=lambda name: -counts[name])
    rest = order[MOST_GROUPS:]
    return {
        **{name: counts[name] for name in order[:MOST_GROUPS]},
        f"{len(rest)} {OTHERS}": sum(counts[name] for name in rest),
    }


def by_group(results: Results, group: str) -> str:
    """A table of accuracy on the groups of test rows, the easiest first: the reference, the best variant, the floor.

    Args:
        group: phenomenon or source.
    """
    shown = [name for name in dict.fromkeys((results.reference, results.best, FLOOR)) if name in results.records]
    table = _accuracies(results, group, shown)
    lines = [
        f"| {group} | test rows | {' | '.join(f'`{name}`' for name in shown)} |",
        "|---|" + "--:|" * (1 + len(shown)),
    ]
    for value, row in table.iterrows():
        name = str(value).replace("|", r"\|")
        lines.append(f"| `{name}` | {row['rows']:.0f} | {' | '.join(f'{row[name]:.2f}' for name in shown)} |")
    return "\n".join(lines)


def abilities(results: Results) -> str:
    """In a sentence, what the best variant is best and worst at."""
    table = _accuracies(results, "phenomenon", [results.best])[results.best]
    ends = [
        ", ".join(f"{100 * accuracy:.0f} % of `{value}`" for value, accuracy in part.items())
        for part in (table.head(NAMED), table.tail(NAMED))
    ]
    return f"Of the test sentences `{results.best}` gets right {ends[0]}, but only {ends[1]}."


def _accuracies(results: Results, group: str, names: list[str]) -> pd.DataFrame:
    """Group -> `rows`, and the accuracy of each of `names`, in the order of the last that is not the floor."""
    part = results.breakdown[results.breakdown["group"] == group]
    table = part.pivot(index="value", columns="variant", values="accuracy")[names]
    rows = part.drop_duplicates("value").set_index("value")["rows"]
    leading = next(name for name in reversed(names) if name != FLOOR)
    return table.assign(rows=rows).sort_values(leading, ascending=False, kind="stable")
