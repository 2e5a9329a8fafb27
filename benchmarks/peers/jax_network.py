"""A recurrent policy with a value, for JAX: GRU or LSTM, with a linear layer for each head."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from benchmarks.peers.work import Work

Weights = dict[str, Any]
State = tuple[Array, ...]
NUM_GATES = {"gru": 3, "lstm": 4}


def initial_weights(work: Work, key: Array) -> Weights:
    """Orthogonal weights for each gate, and zero biases."""
    gates, size = NUM_GATES[work.memory], work.hidden_size
    keys = iter(jax.random.split(key, 2 * gates + 2))
    orthogonal = jax.nn.initializers.orthogonal

    def stacked(num_inputs: int) -> Array:
        return jnp.concatenate(
            [orthogonal()(next(keys), (num_inputs, size)) for _ in range(gates)], axis=1
        )

    return {
        "of_inputs": stacked(work.num_inputs),
        "of_state": stacked(size),
        "bias": jnp.zeros(gates * size),
        "state_bias": jnp.zeros(gates * size),
        "policy": orthogonal(0.01)(next(keys), (size, work.num_actions)),
        "policy_bias": jnp.zeros(work.num_actions),
        "value": orthogonal()(next(keys), (size, 1)),
        "value_bias": jnp.zeros(1),
        "value_of_elapsed": jnp.zeros(1),
    }


def initial_state(work: Work, num_trials: int) -> State:
    """The empty memory at the start of trials."""
    empty = jnp.zeros((num_trials, work.hidden_size))
    return (empty,) if work.memory == "gru" else (empty, empty)


def step(work: Work, weights: Weights, projected: Array, state: State) -> State:
    """One step of the memory.

    Args:
        work: says which memory it is.
        weights: as `initial_weights` returns them.
        projected: the products of the inputs, with their bias, `[B, gates x H]`.
        state: the state before the step; its first array, `[B, H]`, is the output.
    """
    from_state = state[0] @ weights["of_state"] + weights["state_bias"]
    if work.memory == "gru":
        reset, update, new = jnp.split(projected, 3, axis=-1)
        reset_state, update_state, new_state = jnp.split(from_state, 3, axis=-1)
        update = jax.nn.sigmoid(update + update_state)
        new = jnp.tanh(new + jax.nn.sigmoid(reset + reset_state) * new_state)
        return (new + update * (state[0] - new),)
    inward, forget, cell, outward = jnp.split(projected + from_state, 4, axis=-1)
    kept = jax.nn.sigmoid(forget) * state[1] + jax.nn.sigmoid(inward) * jnp.tanh(cell)
    return jax.nn.sigmoid(outward) * jnp.tanh(kept), kept


def project(weights: Weights, inputs: Array) -> Array:
    """The products of the inputs `[..., I]`; over a whole window they are one product."""
    return inputs @ weights["of_inputs"] + weights["bias"]


def unroll(work: Work, weights: Weights, inputs: Array) -> Array:
    """The outputs of whole trials, `[T, B, H]`, from inputs `[T, B, I]`."""

    def one(state: State, projected: Array) -> tuple[State, Array]:
        state = step(work, weights, projected, state)
        return state, state[0]

    empty = initial_state(work, inputs.shape[1])
    outputs: Array = jax.lax.scan(one, empty, project(weights, inputs))[1]
    return outputs


def logits_of(weights: Weights, outputs: Array) -> Array:
    """Logits of the actions, `[..., K]`."""
    return outputs @ weights["policy"] + weights["policy_bias"]


def values_of(weights: Weights, outputs: Array, elapsed: Array) -> Array:
    """Values, `[T, B]`, in units of their running scale; `elapsed` is `[T, 1]`."""
    values = (outputs @ weights["value"] + weights["value_bias"])[..., 0]
    return values + elapsed * weights["value_of_elapsed"]
