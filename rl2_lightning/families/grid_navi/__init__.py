"""GridNavi: the environment, its reference players, and the best search for a hidden goal."""

from rl2_lightning.families.grid_navi.env import GridNavi

__all__ = ["GridNavi"]
