"""What `fincompress doctor` says of one thing."""

from collections.abc import Callable
from dataclasses import dataclass

from fincompress.core.errors import InputError


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at."""

    what: str
    found: str
    mend: str | None = None  # what to do; None where all is well


def looked_at(what: str, look: Callable[[], str | Finding]) -> Finding:
    """What `look` found, or, where it raises an `InputError`, that error as what is to be mended."""
    try:
        found = look()
    except InputError as error:
        return Finding(what, "cannot be used", str(error))
    return found if isinstance(found, Finding) else Finding(what, found)
