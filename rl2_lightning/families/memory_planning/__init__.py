"""The Memory & Planning game: the environment, its reference players, and the steps per goal."""

from rl2_lightning.families.memory_planning.env import MemoryPlanning

__all__ = ["MemoryPlanning"]
