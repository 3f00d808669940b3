"""What a run left on disk, as tables, figures, page and model cards."""
