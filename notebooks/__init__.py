"""Notebooks to learn from, and the command that executes them."""
