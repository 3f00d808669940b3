"""Params for trainings of seconds."""

from fincompress.core.sections import TrainingParams


def training_params(**changes) -> TrainingParams:
    """Three epochs of small batches, with changes."""
    values = {
        "epochs": 3,
        "patience": 1,
        "batch_size": 16,
        "learning_rate": 1e-3,
        "weight_decay": 0.1,
        "dropout": None,
        "freeze_word_embeddings": False,
        "warmup_ratio": 0.1,
    }
    return TrainingParams(**{**values, **changes})
