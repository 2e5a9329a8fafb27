"""Visual mazes: the environment, its rendering, its players, and the analysis of searches."""

from rl2_lightning.families.visual_maze.env import VisualMaze

__all__ = ["VisualMaze"]
