"""Families of tasks: their distributions, environments and reference players."""
