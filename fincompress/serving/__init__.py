"""Using a model: classify texts, score files, compare, export, demonstrate."""
