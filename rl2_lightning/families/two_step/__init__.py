"""The two-step task: the environment, its reference players, and the analysis of choices."""

from rl2_lightning.families.two_step.env import TwoStep

__all__ = ["TwoStep"]
