"""Trials through the bridge beside the same environment stepped by hand."""

from collections.abc import Callable
from typing import Any

import gymnasium
import numpy as np
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv
from tests.families.draws import draw_actions
from tests.families.gymnasium.played import NUM_EPISODES, by_hand, compare, play


def unpacked(task: TensorDictBase) -> Any:
    """A task as its environment gets it."""
    row = {name: one.numpy() if one.numel() > 1 else one.item() for name, one in task.items()}
    return row["task"] if list(row) == ["task"] else row


def see_vector(shown: Tensor, row: int, expected: np.ndarray) -> None:
    assert shown[row].tolist() == expected.astype(np.float32).tolist()


def require_same(
    tasks: GymnasiumTasks,
    make: Callable[[Any], gymnasium.Env],
    see: Any = see_vector,
    num_steps: int | None = None,
) -> np.ndarray:
    """Play random trials through the bridge and by hand, and compare everything.

    Returns:
        The rewards of all rows, `[T, B]`.
    """
    env = TrialEnv(tasks, episodes_per_trial=NUM_EPISODES)
    env.set_seed(1)
    actions = draw_actions(env, num_steps or env.max_steps)
    found = play(env, actions)
    is_discrete = isinstance(tasks.settings.maker.make().action_space, gymnasium.spaces.Discrete)
    for row, task in enumerate(tasks.tasks):
        hand = make(unpacked(task))
        seed = unpacked(task) if tasks.settings.task_by == "seed" else int(tasks._seeds[row])
        decode = int if is_discrete else Tensor.numpy
        expected = by_hand(hand, actions[:, row], tasks.max_episode_steps, decode, seed=seed)
        compare(found, row, expected, see)
    env.close()
    return np.stack([reward.flatten().numpy() for reward in found["reward"]])
