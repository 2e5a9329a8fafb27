"""RL² with PPO in JAX: collecting and optimising are a compiled function each.

As short as such a loop is usually written. Trials are whole windows, the memory is empty at their
start alone, and credit crosses the ends of episodes.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import Array

from benchmarks.peers import jax_network as network
from benchmarks.peers.jax_tasks import Tasks, play_step, sample_tasks
from benchmarks.peers.work import Work


@dataclass(frozen=True)
class Settings:
    """Hyper-parameters, with the values of this project's `configs/learner/ppo.yaml`.

    Attributes:
        num_iterations: iterations over which learning rate and entropy weight fall to zero.
        learning_rate: Adam's learning rate at the start.
        gae_lambda: λ of generalised advantage estimation; γ is 1.
        clip_epsilon: clipping range of the probability ratio around 1.
        value_coefficient: weight of the critic's loss.
        entropy_coefficient: weight of the entropy at the start.
        value_decay: decay per iteration of the running scale of the values.
    """

    num_iterations: int = 10**6
    learning_rate: float = 3e-3
    gae_lambda: float = 0.3
    clip_epsilon: float = 0.2
    value_coefficient: float = 0.5
    entropy_coefficient: float = 0.01
    value_decay: float = 0.99


class Training(NamedTuple):
    """What changes over a training.

    Attributes:
        weights: the agent's and the critic's.
        optimiser: state of the optimiser.
        scale: running means of the value targets, of their squares, and of 1, `[3]`.
        iteration: number of iterations, `[]`.
    """

    weights: network.Weights
    optimiser: Any
    scale: Array
    iteration: Array


class Batch(NamedTuple):
    """The trials of an iteration, `[T, B, ...]`.

    Attributes:
        inputs: the agent's inputs, `[T, B, I]`.
        action: `[T, B]`, int32.
        log_probability: of the actions, `[T, B]`.
        reward: `[T, B]`.
        advantage: normalised, `[T, B]`.
        target: of the values, in units of their scale, `[T, B]`.
    """

    inputs: Array
    action: Array
    log_probability: Array
    reward: Array
    advantage: Array
    target: Array


def make_optimiser(work: Work, settings: Settings) -> optax.GradientTransformation:
    """Adam with a linear schedule, after clipping the gradient's norm to 0.5."""
    updates = settings.num_iterations * work.num_epochs * work.num_minibatches
    rate = optax.linear_schedule(settings.learning_rate, 0.0, updates)
    return optax.chain(optax.clip_by_global_norm(0.5), optax.adam(rate, eps=1e-8))


def begin(work: Work, settings: Settings, key: Array) -> Training:
    """The state of a training at its start."""
    weights = network.initial_weights(work, key)
    optimiser = make_optimiser(work, settings).init(weights)
    return Training(weights, optimiser, jnp.zeros(3), jnp.zeros((), jnp.int32))


def play(
    work: Work, weights: network.Weights, tasks: Tasks, key: Array, *, greedy: bool = False
) -> tuple[Array, Array, Array, Array, Array]:
    """Play one trial of every task.

    Returns:
        Inputs, actions, log-probabilities, rewards, and the memory's outputs, `[T, B, ...]`.
    """
    num_trials = len(tasks.rewards)

    def one(carry: tuple[Any, ...], index: Array) -> tuple[tuple[Any, ...], tuple[Array, ...]]:
        memory, state, action, reward, ended, key = carry
        key, of_action, of_env = jax.random.split(key, 3)
        observation = jax.nn.one_hot(state, work.num_states)
        before = jax.nn.one_hot(action, work.num_actions)  # at first none, all zeros
        ends = jnp.full((num_trials, 1), ended, jnp.float32)
        inputs = jnp.concatenate([observation, before, reward[:, None], ends], axis=1)
        memory = network.step(work, weights, network.project(weights, inputs), memory)
        log_probabilities = jax.nn.log_softmax(network.logits_of(weights, memory[0]))
        if greedy:
            action = log_probabilities.argmax(-1)
        else:
            action = jax.random.categorical(of_action, log_probabilities)
        log_probability = jnp.take_along_axis(log_probabilities, action[:, None], 1)[:, 0]
        reward, state, ended = play_step(work, tasks, state, action, index, of_env)
        carry = (memory, state, action, reward, ended, key)
        return carry, (inputs, action, log_probability, reward, memory[0])

    nothing = jnp.zeros(num_trials, jnp.int32)
    first = (
        network.initial_state(work, num_trials),
        nothing,
        nothing + work.num_actions,
        jnp.zeros(num_trials),
        jnp.array(True),
        key,
    )
    steps: tuple[Array, Array, Array, Array, Array]
    steps = jax.lax.scan(one, first, jnp.arange(work.num_steps))[1]
    return steps


def _elapsed(work: Work) -> Array:
    return (jnp.arange(work.num_steps) / work.num_steps)[:, None]


def _moments(scale: Array) -> tuple[Array, Array]:
    """Mean and standard deviation of the value targets so far; 0 and 1 before any."""
    mean, square = scale[:2] / jnp.maximum(scale[2], 1e-8)
    spread = jnp.sqrt(jnp.maximum(square - mean**2, 1e-4))
    return mean, jnp.where(scale[2] > 0, spread, 1.0)


@partial(jax.jit, static_argnums=(0, 1))
def collect(
    work: Work, settings: Settings, training: Training, key: Array
) -> tuple[Training, Batch]:
    """Play the trials of an iteration, and assign credit over whole trials."""
    of_tasks, of_play = jax.random.split(key)
    weights = training.weights
    tasks = sample_tasks(work, of_tasks, work.num_trials)
    inputs, action, log_probability, reward, outputs = play(work, weights, tasks, of_play)
    mean, spread = _moments(training.scale)
    values = spread * network.values_of(weights, outputs, _elapsed(work)) + mean
    following = jnp.concatenate([values[1:], jnp.zeros_like(values[:1])])
    errors = reward + following - values

    def back(later: Array, error: Array) -> tuple[Array, Array]:
        advantage = error + settings.gae_lambda * later
        return advantage, advantage

    advantages = jax.lax.scan(back, jnp.zeros(work.num_trials), errors, reverse=True)[1]
    targets = advantages + values
    found = jnp.stack([targets.mean(), (targets**2).mean(), jnp.ones(())])
    scale = training.scale * settings.value_decay + found * (1 - settings.value_decay)
    mean, spread = _moments(scale)
    normalised = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    batch = Batch(inputs, action, log_probability, reward, normalised, (targets - mean) / spread)
    return training._replace(scale=scale), batch


def _loss(
    work: Work, settings: Settings, weights: network.Weights, batch: Batch, progress: Array
) -> Array:
    outputs = network.unroll(work, weights, batch.inputs)
    log_probabilities = jax.nn.log_softmax(network.logits_of(weights, outputs))
    taken = jnp.take_along_axis(log_probabilities, batch.action[..., None], -1)[..., 0]
    ratio = jnp.exp(taken - batch.log_probability)
    clipped = jnp.clip(ratio, 1 - settings.clip_epsilon, 1 + settings.clip_epsilon)
    policy_loss = -jnp.minimum(ratio * batch.advantage, clipped * batch.advantage).mean()
    values = network.values_of(weights, outputs, _elapsed(work))
    value_loss = ((values - batch.target) ** 2).mean()
    entropy = -(jnp.exp(log_probabilities) * log_probabilities).sum(-1).mean()
    weight = settings.entropy_coefficient * jnp.maximum(1 - progress, 0)
    return policy_loss + settings.value_coefficient * value_loss - weight * entropy


@partial(jax.jit, static_argnums=(0, 1), donate_argnums=(2,))
def optimise(
    work: Work, settings: Settings, training: Training, batch: Batch, key: Array
) -> Training:
    """Pass over the trials several times, in minibatches of whole trials."""
    optimiser = make_optimiser(work, settings)
    progress = training.iteration / settings.num_iterations
    gradient_of = jax.grad(partial(_loss, work, settings))
    rows = work.num_trials // work.num_minibatches

    def update(carry: tuple[Any, Any], chosen: Array) -> tuple[tuple[Any, Any], None]:
        weights, state = carry
        minibatch = jax.tree.map(lambda entry: entry[:, chosen], batch)
        changes, state = optimiser.update(gradient_of(weights, minibatch, progress), state)
        return (optax.apply_updates(weights, changes), state), None

    orders = jax.vmap(lambda one: jax.random.permutation(one, work.num_trials))(
        jax.random.split(key, work.num_epochs)
    )
    carry = (training.weights, training.optimiser)
    (weights, state), _ = jax.lax.scan(update, carry, orders.reshape(-1, rows))
    return Training(weights, state, training.scale, training.iteration + 1)


def train(work: Work, settings: Settings, key: Array) -> Training:
    """Train for the iterations of the settings."""
    key, first = jax.random.split(key)
    training = begin(work, settings, first)
    for _ in range(settings.num_iterations):
        key, of_collecting, of_order = jax.random.split(key, 3)
        training, batch = collect(work, settings, training, of_collecting)
        training = optimise(work, settings, training, batch, of_order)
    return training


@partial(jax.jit, static_argnums=(0, 3))
def greedy_return(work: Work, weights: network.Weights, key: Array, num_tasks: int) -> Array:
    """The mean return of a trial with the most likely actions, `[]`."""
    of_tasks, of_play = jax.random.split(key)
    tasks = sample_tasks(work, of_tasks, num_tasks)
    return play(work, weights, tasks, of_play, greedy=True)[3].sum(axis=0).mean()
