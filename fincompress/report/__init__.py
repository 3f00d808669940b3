"""From what a run left on disk to tables, figures, the page and model cards."""
