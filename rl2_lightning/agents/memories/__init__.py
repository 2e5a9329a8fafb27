"""Memories: one file for each kind, all keeping the contract of `memory.py`."""
