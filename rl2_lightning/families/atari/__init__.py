"""Atari games, whose modes and difficulties are tasks, for `env=gymnasium`."""
