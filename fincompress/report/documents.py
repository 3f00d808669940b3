"""Blocks of a run's results in documents, between markers that name them, and bringing a document up to date:

<!-- results: headline -->
...
<!-- results: end -->
"""

import re
from collections.abc import Callable

from fincompress.core.errors import InputError
from fincompress.report.groups import abilities, by_group
from fincompress.report.headline import headline, ladder, summary
from fincompress.report.results import Results
from fincompress.report.tables import BEHAVIOUR, COSTS, markdown_table, notes

MARKER = re.compile(r"^<!-- results: (\w+) -->$", re.MULTILINE)
"""A line that begins a block, or ends it where it says `END`."""
END = "end"

BLOCKS: dict[str, Callable[[Results], str]] = {
    "summary": summary,
    "ladder": ladder,
    "headline": headline,
    "costs": lambda results: markdown_table(results, COSTS),
    "behaviour": lambda results: markdown_table(results, BEHAVIOUR),
    "notes": notes,
    "phenomena": lambda results: by_group(results, "phenomenon"),
    "sources": lambda results: by_group(results, "source"),
    "abilities": abilities,
}
"""Name in a marker -> what stands between it and the end marker."""


def insert(document: str, results: Results, source: str = "document") -> str:
    """`document` with every block between result markers up to date.

    Args:
        source: what the document is called in errors.

    Raises:
        InputError: there are no markers, one has no end, or one names an unknown block.
    """
    known = ", ".join(BLOCKS)
    parts = MARKER.split(document)
    texts, names = parts[::2], parts[1::2]
    if not names:
        raise InputError(
            f"{source}: no result markers; put `<!-- results: NAME -->` and `<!-- results: {END} -->` around the place "
            f"for a block, NAME being one of {known}"
        )
    filled = texts[0]
    for index in range(0, len(names), 2):
        name, closing = names[index], names[index + 1 : index + 2]
        if name not in BLOCKS:
            raise InputError(f"{source}: `<!-- results: {name} -->` does not begin a block; expected one of {known}")
        if closing != [END]:
            raise InputError(f"{source}: `<!-- results: {name} -->` has no `<!-- results: {END} -->` after it")
        filled += f"<!-- results: {name} -->\n{BLOCKS[name](results)}\n<!-- results: {END} -->{texts[index + 2]}"
    return filled


def report(results: Results) -> str:
    """What `fincompress results` prints: the steps to the best variant, both full tables, and their notes."""
    return "\n\n".join(BLOCKS[name](results) for name in ("ladder", "costs", "behaviour", "notes"))
