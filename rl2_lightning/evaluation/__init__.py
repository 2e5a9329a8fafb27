"""Evaluate how an agent adapts to held-out tasks, in comparison to reference players."""
