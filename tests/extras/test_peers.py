"""The loop in JAX, beside which this project is measured, does the same work and learns."""

from importlib.util import find_spec
from time import perf_counter

import pytest

from benchmarks.peers.turns import Loop, take_turns
from benchmarks.peers.work import Work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("jax") is None, reason="pip install rl2-lightning[bench]"),
]
BANDIT = Work("bernoulli_bandit", 5, 10, "gru", 32, num_trials=1000, num_minibatches=8)


@pytest.mark.parametrize("memory", ["gru", "lstm"])
@pytest.mark.parametrize("env", ["bernoulli_bandit", "tabular_mdp"])
def test_it_is_measured(env: str, memory: str) -> None:
    found = take_turns({"jax": Loop("jax", Work(env, 3, 2, memory, 4, 4))}, 1, 1)["jax"]
    assert not found.error
    assert len(found.laps) == 1


def test_it_learns() -> None:
    import jax

    from benchmarks.peers import jax_loop

    # A player that does not learn gets 5, and the best possible one 6.67.
    settings = jax_loop.Settings(num_iterations=100)
    training = jax_loop.train(BANDIT, settings, jax.random.key(0))
    found = jax_loop.greedy_return(BANDIT, training.weights, jax.random.key(1), 5000)
    assert float(found) > 6.2


@pytest.mark.parametrize("env", ["bernoulli_bandit", "tabular_mdp"])
def test_inputs_are_those_of_rl2(env: str) -> None:
    import jax
    import numpy as np

    from benchmarks.peers import jax_loop
    from benchmarks.peers.jax_network import initial_weights

    work = Work(env, 3, 2, "lstm", 4, 5)
    weights = initial_weights(work, jax.random.key(0))
    tasks = jax_loop.sample_tasks(work, jax.random.key(1), 5)
    inputs, action, _, reward, _ = map(
        np.asarray, jax_loop.play(work, weights, tasks, jax.random.key(2))
    )
    states = work.num_states
    assert inputs.shape == (work.num_steps, 5, work.num_inputs)
    assert (inputs[0, :, states:-1] == 0).all()
    assert (inputs[1:, :, states:-2] == np.eye(3)[action[:-1]]).all()
    assert (inputs[1:, :, -2] == reward[:-1]).all()
    begins = np.arange(work.num_steps) % work.horizon == 0
    assert (inputs[:, :, -1] == begins[:, None]).all()
    assert (inputs[begins, :, 0] == 1).all()  # an episode begins in state 0


def test_features_of_a_window_are_those_of_its_steps() -> None:
    import jax
    import numpy as np

    from benchmarks.peers import jax_loop, jax_network

    work = Work("bernoulli_bandit", 3, 4, "gru", 6, 5)
    weights = jax_network.initial_weights(work, jax.random.key(0))
    tasks = jax_loop.sample_tasks(work, jax.random.key(1), 5)
    inputs, *_, outputs = jax_loop.play(work, weights, tasks, jax.random.key(2))
    unrolled = jax_network.unroll(work, weights, inputs)
    assert np.allclose(unrolled, outputs, atol=1e-5)


def test_the_optimum_is_approached() -> None:
    from benchmarks.peers.optimum import jax_points

    work = Work("bernoulli_bandit", 5, 10, "gru", 8, 64)
    points = list(jax_points(1, 2, 50, perf_counter, work, budget=2600))
    assert [point.env_steps for point in points] == [1280, 2560]
    assert 0 < points[0].seconds < points[1].seconds
    assert points[0].set_up > points[1].seconds
