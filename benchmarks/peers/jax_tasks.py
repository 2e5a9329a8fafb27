"""Bernoulli bandits and random MDPs as functions of arrays, for JAX."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.peers.work import Work


class Tasks(NamedTuple):
    """The parameters of B tasks.

    Attributes:
        rewards: mean reward of each action in each state, `[B, S, K]`.
        transitions: cumulative probabilities of the next states, `[B, S, K, S - 1]`.
    """

    rewards: Array
    transitions: Array


def sample_tasks(work: Work, key: Array, num_tasks: int) -> Tasks:
    """Draw bandits with p ~ U[0, 1], or MDPs with rewards ~ N(1, 1) and flat transitions."""
    of_rewards, of_transitions = jax.random.split(key)
    shape = (num_tasks, work.num_states, work.num_actions)
    if work.env == "bernoulli_bandit":
        return Tasks(jax.random.uniform(of_rewards, shape), jnp.zeros((*shape, 0)))
    weights = jax.random.exponential(of_transitions, (*shape, work.num_states))
    probabilities = weights / weights.sum(-1, keepdims=True)
    return Tasks(1 + jax.random.normal(of_rewards, shape), probabilities.cumsum(-1)[..., :-1])


def play_step(
    work: Work, tasks: Tasks, state: Array, action: Array, index: Array, key: Array
) -> tuple[Array, Array, Array]:
    """Play one step of every trial.

    Args:
        work: the kind of tasks.
        tasks: their parameters, `[B]`.
        state: state of each, `[B]`, int32.
        action: `[B]`, int32.
        index: index of the step in its trial, `[]`.
        key: source of the draws.

    Returns:
        The reward, `[B]`, the next state, `[B]`, and whether an episode ends, `[]`.
    """
    rows = jnp.arange(len(action))
    mean = tasks.rewards[rows, state, action]
    of_reward, of_state = jax.random.split(key)
    ends = (index + 1) % work.horizon == 0
    if work.env == "bernoulli_bandit":
        reward = (jax.random.uniform(of_reward, mean.shape) < mean).astype(jnp.float32)
        return reward, state, ends
    reward = mean + jax.random.normal(of_reward, mean.shape)
    draw = jax.random.uniform(of_state, (len(action), 1))
    following = (draw >= tasks.transitions[rows, state, action]).sum(-1)
    return reward, jnp.where(ends, 0, following), ends
