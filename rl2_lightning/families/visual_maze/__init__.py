"""Visual mazes: the environment, what is seen in it, its players, and what becomes of searches."""

from rl2_lightning.families.visual_maze.env import VisualMaze

__all__ = ["VisualMaze"]
