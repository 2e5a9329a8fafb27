"""Random tabular MDPs (arXiv 1611.02779, section 3.2): how they are drawn, and how they answer."""

from typing import NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.dirichlet import sample_dirichlet


class Episode(NamedTuple):
    """What a player of B tasks sees of an episode of H steps.

    The state that the last action leads to is not in it: a player sees the next episode's first
    state instead.

    Attributes:
        states: `[H, B]`, int64.
        actions: `[H, B]`, int64.
        rewards: `[H, B]`, float32.
    """

    states: Tensor
    actions: Tensor
    rewards: Tensor


def sample_mdps(
    num_tasks: int, num_states: int, num_actions: int, generator: torch.Generator
) -> TensorDict:
    """Draws MDPs on the device of the generator.

    Args:
        num_tasks: B, MDPs to draw.
        num_states: S.
        num_actions: A.
        generator: source of all randomness.

    Returns:
        Mean rewards ~ Normal(1, 1), `[B, S, A]`, and transition probabilities ~ Dirichlet(1, …, 1),
        `[B, S, A, S]`, float32; batch size `[B]`.
    """
    device = generator.device
    shape = (num_tasks, num_states, num_actions)
    mean_rewards = 1 + torch.randn(shape, generator=generator, device=device)
    flat = torch.ones(*shape, num_states, device=device)
    return TensorDict(
        {
            keys.MEAN_REWARDS: mean_rewards,
            keys.TRANSITION_PROBABILITIES: sample_dirichlet(flat, generator),
        },
        [num_tasks],
        device,
    )


def play_step(
    tasks: TensorDictBase, state: Tensor, action: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Plays one step of every MDP.

    Args:
        tasks: holds the mean rewards, `[B, S, A]`, and the transition probabilities,
            `[B, S, A, S]`, float32; batch size `[B]`.
        state: `[B]`, int64.
        action: `[B]`, int64.
        generator: source of randomness, on the device of the tasks.

    Returns:
        Reward, normal around its mean with variance 1, `[B]`, float32; next state, `[B]`, int64.
    """
    device = state.device
    rows = torch.arange(len(state), device=device)
    noise = torch.randn(state.shape, generator=generator, device=device)
    reward = tasks[keys.MEAN_REWARDS][rows, state, action] + noise
    distribution = tasks[keys.TRANSITION_PROBABILITIES][rows, state, action].cumsum(-1)
    draw = torch.rand(len(state), 1, generator=generator, device=device)
    # The last entry is 1 but for rounding, and no draw may pass it.
    return reward, (draw >= distribution[:, :-1]).sum(-1)


def play_episode(
    tasks: TensorDictBase,
    action_values: Tensor,
    generator: torch.Generator,
    epsilon: float = 0.0,
) -> Episode:
    """Plays an episode of every MDP from state 0, choosing the actions of the highest value.

    Among equal values any action is taken with the same probability, as the published players
    did: what was never tried is all alike.

    Args:
        tasks: as for `play_step`.
        action_values: of each step, state and action, `[H, B, S, A]`, float32.
        generator: source of randomness, on the device of the tasks.
        epsilon: probability of a uniformly random action instead.

    Returns:
        The episode, as the player sees it.
    """
    horizon, num_tasks, _, num_actions = action_values.shape
    device = action_values.device
    rows = torch.arange(num_tasks, device=device)
    state = torch.zeros(num_tasks, dtype=torch.int64, device=device)
    states = state.new_empty(horizon, num_tasks)
    actions = torch.empty_like(states)
    rewards = action_values.new_empty(horizon, num_tasks)
    for step in range(horizon):
        values = action_values[step, rows, state]
        is_best = values == values.amax(-1, keepdim=True)
        if epsilon > 0:
            explores = torch.rand(num_tasks, 1, generator=generator, device=device) < epsilon
            is_best = is_best | explores
        order = torch.rand(num_tasks, num_actions, generator=generator, device=device)
        action = torch.where(is_best, order, -1).argmax(-1)
        states[step], actions[step] = state, action
        rewards[step], state = play_step(tasks, state, action, generator)
    return Episode(states, actions, rewards)
