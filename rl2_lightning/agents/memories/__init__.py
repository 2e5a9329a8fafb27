"""Memories: one file for each kind, with the interface in `memory.py`."""
