"""The schemas of the families of tasks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from omegaconf import MISSING

from rl2_lightning.fields import between, one_of, range_within


@dataclass
class BernoulliBanditConfig:
    """Bernoulli bandits."""

    _target_: str = "rl2_lightning.envs.bernoulli_bandit.BernoulliBandit"
    num_arms: int = between(2)


@dataclass
class DependentBanditConfig:
    """Two Bernoulli arms that depend on each other."""

    _target_: str = "rl2_lightning.envs.dependent_bandit.DependentBandit"
    worse_arm: float | None = between(0, 0.5)


@dataclass
class GaussianBanditConfig:
    """Bandits with normal rewards."""

    _target_: str = "rl2_lightning.envs.gaussian_bandit.GaussianBandit"
    num_arms: int = between(2)
    noise: float = between(0.01, 1e6)


@dataclass
class GridNaviConfig:
    """A grid with a hidden goal."""

    _target_: str = "rl2_lightning.envs.grid_navi.GridNavi"
    size: int = between(3)
    horizon: int = between(1)


@dataclass
class PointRobotConfig:
    """A point robot with a hidden goal."""

    _target_: str = "rl2_lightning.envs.point_robot.PointRobot"
    goals: str = one_of("half_circle", "square")
    reward: str = one_of("dense", "sparse")
    goal_radius: float = between(0.01, 1)
    horizon: int = between(1)


@dataclass
class CartPoleConfig:
    """Cart-poles of drawn physics."""

    _target_: str = "rl2_lightning.envs.cart_pole.CartPole"
    cart_mass: list[float] = range_within(0.1, 100)
    pole_length: list[float] = range_within(0.02, 10)
    gravity: list[float] = range_within(0.1, 100)
    flips: bool = MISSING
    shows_velocities: bool = MISSING
    horizon: int = between(1)


@dataclass
class PendulumConfig:
    """Pendulums of drawn physics."""

    _target_: str = "rl2_lightning.envs.pendulum.Pendulum"
    mass: list[float] = range_within(0.01, 10)
    length: list[float] = range_within(0.01, 10)
    gravity: list[float] = range_within(0.1, 100)
    flips: bool = MISSING
    horizon: int = between(1)


@dataclass
class RestlessBanditConfig:
    """Two Bernoulli arms that drift."""

    _target_: str = "rl2_lightning.envs.restless_bandit.RestlessBandit"
    low_volatility: float = between(0, 1)
    high_volatility: float = between(0, 1)


@dataclass
class InformativeBanditConfig:
    """Eleven arms, one of them informative."""

    _target_: str = "rl2_lightning.envs.informative_bandit.InformativeBandit"


@dataclass
class TabularMDPConfig:
    """Random tabular MDPs."""

    _target_: str = "rl2_lightning.envs.tabular_mdp.TabularMDP"
    num_states: int = between(1)
    num_actions: int = between(2)
    horizon: int = between(1)


@dataclass
class TwoStepConfig:
    """The two-step task."""

    _target_: str = "rl2_lightning.envs.two_step.TwoStep"
    common_probability: float = between(0.5, 1)
    reward_probability: float = between(0.5, 1)
    reversal_probability: float = between(0, 1)


@dataclass
class VisualMazeConfig:
    """Mazes seen in first person."""

    _target_: str = "rl2_lightning.envs.visual_maze.VisualMaze"
    size: int = between(2)
    horizon: int = between(1)
    num_training_mazes: int | None = between(1)


# By the name of the family's YAML file.
FAMILY_SCHEMAS: Mapping[str, type] = {
    "bernoulli_bandit": BernoulliBanditConfig,
    "dependent_bandit": DependentBanditConfig,
    "gaussian_bandit": GaussianBanditConfig,
    "grid_navi": GridNaviConfig,
    "point_robot": PointRobotConfig,
    "cart_pole": CartPoleConfig,
    "pendulum": PendulumConfig,
    "restless_bandit": RestlessBanditConfig,
    "informative_bandit": InformativeBanditConfig,
    "tabular_mdp": TabularMDPConfig,
    "two_step": TwoStepConfig,
    "visual_maze": VisualMazeConfig,
}
