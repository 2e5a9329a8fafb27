"""Random tabular MDPs: the environment, and reference players that plan."""

from rl2_lightning.families.tabular_mdp.env import TabularMDP

__all__ = ["TabularMDP"]
