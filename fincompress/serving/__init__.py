"""Models in use: classify, score files, compare, export, show."""
