"""The Lightning callbacks used in `configs/callbacks`."""
