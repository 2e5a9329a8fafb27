"""Every family that has a config, and the corridor."""

from pathlib import Path
from typing import Any

import torch
from hydra.utils import get_class
from omegaconf import OmegaConf

from rl2_lightning.families.task_env import TaskEnv
from tests.corridor import Corridor

CONFIGS = Path(__file__).parents[2] / "configs" / "env"
NAMES = [*sorted(config.stem for config in CONFIGS.glob("*.yaml")), "corridor"]


def read_family(name: str) -> tuple[type[TaskEnv], dict[str, Any]]:
    """The family's class, and its settings in its config."""
    if name == "corridor":
        return Corridor, {}
    settings = OmegaConf.to_container(OmegaConf.load(CONFIGS / f"{name}.yaml").env)
    return get_class(settings.pop("_target_")), settings


def make_family(name: str, num_tasks: int, device: torch.device | str = "cpu") -> TaskEnv:
    """The family with the settings of its config."""
    family, settings = read_family(name)
    return family(num_tasks, device, **settings)
