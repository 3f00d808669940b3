"""Run a model folder in any runtime, and convert it for one."""
