"""Builds the documentation site; `make docs` runs it."""
