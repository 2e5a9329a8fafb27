"""How well an agent adapts to tasks it never trained on, beside reference players."""
