"""The error for everything a person can mend, and what the disk says as such an error."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager


class InputError(ValueError):
    """Something the user gave (a parameter, a file, a checkpoint) cannot be used.

    The message names the file and the key or row, and says how to fix it. It is one line, even where it repeats a name
    or a value that has line breaks.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))


_DISK = {
    errno.ENOSPC: "the disk is full; free some space",
    errno.EDQUOT: "your quota of the disk is used up; free some space",
    errno.EROFS: "the file system is read-only; work in a folder that can be written",
    errno.EACCES: "permission denied; see who owns it, or work in another folder",
    errno.EPERM: "permission denied; see who owns it, or work in another folder",
    errno.EMFILE: "too many open files; raise the limit (`ulimit -n`)",
}
"""What the operating system says of a disk -> what is wrong, and the mend."""


@contextmanager
def disk_explained() -> Iterator[None]:
    """Make what a person can mend about the disk an `InputError` that names the file, where that is known.

    Libraries that write in other languages raise errors of their own, in which the system's words still stand.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        number = getattr(error, "errno", None)
        if number not in _DISK:
            number = next((code for code in (errno.ENOSPC, errno.EDQUOT) if os.strerror(code) in str(error)), None)
        if number is None:
            raise
        name = getattr(error, "filename", None)
        where = f"{os.fspath(name)}: " if isinstance(name, str | os.PathLike) else ""
        raise InputError(f"{where}{_DISK[number]}, then run the same command again") from None
