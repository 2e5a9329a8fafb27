"""Iterations of memorax's PPO (https://github.com/memory-rl/memorax) on the same tasks.

Its wrapper of the same name lets the task change between episodes, so a trial is one episode of an
environment of its own here. Actor and critic have a memory each, as in its examples: an iteration
computes about twice as many products as one with a shared memory.
"""

from __future__ import annotations

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from flax import struct
from gymnax.environments import spaces
from jax import Array
from memorax.algorithms import PPO, PPOConfig
from memorax.networks import RNN, FeatureExtractor, Network, heads

from benchmarks.peers.jax_tasks import Tasks, play_step, sample_tasks
from benchmarks.peers.loops import Lap, Turns
from benchmarks.peers.work import Work


@struct.dataclass
class TrialState:
    """One trial: its task, the state of the task, and the index of the step."""

    task: Tasks
    state: Array
    index: Array


class Trial:
    """One trial as an environment of gymnax; the end of a trial begins another.

    Args:
        work: the kind of tasks.
    """

    def __init__(self, work: Work) -> None:
        self._work = work

    def reset(self, key: Array, params: None) -> tuple[Array, TrialState]:
        """Begin a trial of a new task."""
        task = sample_tasks(self._work, key, 1)
        zero = jnp.zeros((), jnp.int32)
        return self._shown(zero, jnp.array(True)), TrialState(task, zero, zero)

    def step(
        self, key: Array, trial: TrialState, action: Array, params: None
    ) -> tuple[Array, TrialState, Array, Array, dict[str, Any]]:
        """Play one step."""
        of_step, of_reset = jax.random.split(key)
        found = play_step(
            self._work, trial.task, trial.state[None], action[None], trial.index, of_step
        )
        reward, state, ends = found[0][0], found[1][0].astype(jnp.int32), found[2]
        following = TrialState(trial.task, state, trial.index + 1)
        done = following.index >= self._work.num_steps
        first_shown, first = self.reset(of_reset, params)
        shown = self._shown(state, ends)
        following = jax.tree.map(lambda a, b: jnp.where(done, a, b), first, following)
        return jnp.where(done, first_shown, shown), following, reward, done, {}

    def action_space(self, params: None) -> spaces.Discrete:
        """The arms, or the actions of the MDP."""
        return spaces.Discrete(self._work.num_actions)

    def _shown(self, state: Array, begins: Array) -> Array:
        shown = jax.nn.one_hot(state, self._work.num_states)
        return jnp.append(shown, begins.astype(jnp.float32))


def make_network(work: Work, head: nn.Module) -> Network:
    """A GRU or an LSTM on the concatenated inputs, with a head."""
    cells = {"gru": nn.GRUCell, "lstm": nn.OptimizedLSTMCell}

    def as_is(inputs: Array) -> Array:
        return inputs

    def one_hot(action: Array) -> Array:
        return jax.nn.one_hot(action, work.num_actions)

    return Network(
        FeatureExtractor(as_is, one_hot, as_is), RNN(cells[work.memory](work.hidden_size)), head
    )


def run(work: Work, turns: Turns) -> None:
    """Iterations, each a call of its compiled `train`."""
    cfg = PPOConfig(
        name="rl2",
        num_envs=work.num_trials,
        num_eval_envs=1,
        num_steps=work.num_steps,
        gamma=1.0,
        gae_lambda=0.3,
        num_minibatches=work.num_minibatches,
        update_epochs=work.num_epochs,
        normalize_advantage=True,
        clip_coef=0.2,
        clip_vloss=False,
        ent_coef=0.01,
        vf_coef=0.5,
    )
    optimiser = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(3e-3))
    ppo = PPO(
        cfg=cfg,
        env=Trial(work),
        env_params=None,
        actor_network=make_network(work, heads.Categorical(work.num_actions)),
        critic_network=make_network(work, heads.VNetwork()),
        actor_optimizer=optimiser,
        critic_optimizer=optimiser,
    )
    key, state = ppo.init(jax.random.key(0))
    while turns.wait():
        start = turns.clock()
        key, state, _ = jax.block_until_ready(ppo.train(key, state, work.env_steps))
        turns.end(Lap(None, turns.clock() - start))
