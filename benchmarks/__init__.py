"""Measurements of speed, as shares of what the machine allows."""
