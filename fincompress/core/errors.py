"""The one exception that users see as a message instead of a traceback."""


class InputError(ValueError):
    """Something the user gave (a parameter, a file, a checkpoint) cannot be used.

    The message names the file and the key or row, and says how to fix it. It is one line, even where it repeats a name
    or a value that has line breaks.
    """

    def __init__(self, message: str):
        super().__init__(" ".join(message.splitlines()))
