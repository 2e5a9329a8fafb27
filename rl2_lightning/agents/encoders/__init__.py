"""Encode an agent's inputs as one vector per step."""
