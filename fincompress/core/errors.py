"""The one exception that is shown to people as a message instead of a traceback."""


class InputError(ValueError):
    """Something the user gave (a parameter, a file, a checkpoint) cannot be used.

    The message names the file and the key or row, and says how to mend it.
    """
