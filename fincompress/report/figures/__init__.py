"""Figures drawn from metrics and tables on disk."""
