"""Studies: questions answered once, each with its page in docs/results."""
