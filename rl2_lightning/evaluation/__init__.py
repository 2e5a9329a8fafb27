"""How well an agent adapts to tasks it never trained on, beside the oracles of the same tasks."""
