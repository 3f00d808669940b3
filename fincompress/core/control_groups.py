"""Linux control groups, by which a container or a session is given less than the whole machine."""

from collections.abc import Iterator
from pathlib import Path


def control_groups(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """The folder of each control group that this process is in and of its parents, as far as they can be seen.

    Version 2 has one group for all controllers, version 1 one per controller; a limit anywhere among them holds.

    Args:
        controller: as version 1 names it, such as `memory` or `cpu`.
        root: where `proc` and `sys` are mounted.
    """
    own = root / "proc" / "self" / "cgroup"
    for line in own.read_text().splitlines() if own.is_file() else []:
        _, controllers, path = line.split(":", 2)
        top = root / "sys" / "fs" / "cgroup"
        if controllers:  # version 2 names none
            if controller not in controllers.split(","):
                continue
            top /= controller
        group = top / path.strip("/")
        for folder in [group, *group.parents]:
            yield folder
            if folder == top:
                break
