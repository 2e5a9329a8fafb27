"""Bandits to play, and inputs after pulls."""

from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning.families.bandits.env import ARM_PROBABILITIES
from rl2_lightning.families.bandits.policies import Tally
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.play import play_reference
from rl2_lightning.families.player import Player
from rl2_lightning.families.task_env import TaskEnv, Transition
from rl2_lightning.inputs import Inputs
from tests.families.draws import seeded


def bandits(probabilities: Tensor) -> TensorDict:
    """Tasks with these arms, `[B, K]`."""
    return TensorDict({ARM_PROBABILITIES: probabilities}, [len(probabilities)])


def random_bandits(num_tasks: int, num_arms: int, seed: int) -> TensorDict:
    """Tasks from the prior."""
    return bandits(torch.rand(num_tasks, num_arms, generator=seeded(seed)))


def draw_tasks(family: type[TaskEnv], num_tasks: int, seed: int, **settings: Any) -> TensorDict:
    """Tasks of a family."""
    env = family(num_tasks, **settings)
    env.set_seed(seed)
    return env.sample_tasks(num_tasks)


def play(
    player: Player,
    tasks: TensorDictBase,
    num_pulls: int,
    seed: int,
    family: type[TaskEnv] = BernoulliBandit,
    **settings: Any,
) -> Tensor:
    """The rewards of a trial of every task, `[B, num_pulls]`."""
    if family is BernoulliBandit:
        settings["num_arms"] = tasks[ARM_PROBABILITIES].shape[1]
    device = str(tasks.device or "cpu")
    env = family(len(tasks), device, **settings)
    return play_reference(player, env, tasks, num_pulls, seeded(seed, device))


def tally(successes: Tensor, failures: Tensor, pull: int = 0) -> Tally:
    return Tally(successes + failures, successes, pull)


def after(action: Tensor, reward: Tensor) -> Inputs:
    """The inputs after a pull `[B]` and its reward `[B]`."""
    ones = torch.ones(len(action), 1)
    return Inputs(ones, action, reward.unsqueeze(1), ones, ones)


def pull(env: TaskEnv, action: Tensor) -> Transition:
    """Pull an arm of every bandit."""
    return env.play(action, torch.ones(env.num_tasks, 1, dtype=torch.bool))
