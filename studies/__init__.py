"""Studies: questions that were answered once, each with a page in docs/results."""
