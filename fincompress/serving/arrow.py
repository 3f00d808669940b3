"""pyarrow, which comes with the extra `parquet` and is loaded only where there is Parquet to read or write."""

from types import ModuleType

from fincompress.core.extras import explained


def arrow() -> tuple[ModuleType, ModuleType]:
    """`pyarrow` and `pyarrow.parquet`.

    Raises:
        InputError: they are not installed.
    """
    with explained():
        import pyarrow
        import pyarrow.parquet
    return pyarrow, pyarrow.parquet


def one_line(error: Exception) -> str:
    """What one of pyarrow's errors says; some take several lines."""
    return " ".join(str(error).split())
