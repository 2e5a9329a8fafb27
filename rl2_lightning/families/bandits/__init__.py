"""Shared parts of the bandit families: their environment, players and indices."""
