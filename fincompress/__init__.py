"""FinCompress: make a fine-tuned transformer text classifier small and fast enough for a CPU."""

from importlib import import_module

__all__ = ["Prediction", "TextClassifier", "load_classifier"]


def __getattr__(name: str):
    """Import the names of `serving` on first use: a stage that trains needs none of them."""
    if name in __all__:
        return getattr(import_module("fincompress.serving.classifier"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
