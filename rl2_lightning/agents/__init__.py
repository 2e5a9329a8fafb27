"""Agents: they act and remember, and know nothing else."""
