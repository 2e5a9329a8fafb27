"""The surrogate problem: its objective, its divergence, and the Fisher-vector product."""

from itertools import product

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parameters_to_vector

from rl2_lightning import keys
from rl2_lightning.data.windows import as_tensordict, inputs_of, state_of
from rl2_lightning.learners.natural_gradient import assign, flat_gradient
from rl2_lightning.learners.trpo import TRPO
from rl2_lightning.learners.windows import line_up_entries
from tests.builders import (
    MEMORIES,
    corridor_trials,
    make_agent,
    make_learner,
    minibatch_of,
    point_trials,
)
from tests.learners.trust_region import (
    direction_of,
    features_of,
    learner_and_windows,
    problem_of,
    weights,
)
from tests.locks import lock_trials

WINDOWS = [(None, 0), (4, 2)]


def warmed(learner: TRPO, windows: TensorDictBase) -> TensorDictBase:
    """The windows with the states that their burn-ins lead to, and without the burn-ins."""
    if windows.get(keys.BURN_IN, None) is None:
        return windows
    agent, burn_in = learner.agent, windows[keys.BURN_IN]
    state = state_of(windows[keys.MEMORY_STATE])
    with torch.no_grad():
        _, state = agent.unroll(inputs_of(burn_in), state, playing=burn_in[keys.MASK])
        state = agent.memory.restart(state, ~windows[keys.HAS_BURN_IN])
    fixed = windows.exclude(keys.BURN_IN, keys.HAS_BURN_IN)
    return fixed.set(keys.MEMORY_STATE, as_tensordict(state, windows.batch_size))


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials, lock_trials])
@pytest.mark.parametrize(("memory", "sizes"), list(product(MEMORIES, WINDOWS)))
def test_fisher_vector_product_is_a_finite_difference(make_trials, memory: str, sizes) -> None:
    env = make_trials(6)
    window, burn_in = sizes
    # A policy that is neither uniform nor certain.
    gain = 30 if make_trials is corridor_trials else 5
    learner, windows = learner_and_windows(env, memory, window=window, burn_in=burn_in, gain=gain)
    parameters = list(learner.agent.parameters())
    old, direction = weights(learner.agent), direction_of(learner)
    # A burn-in passes no gradient on.
    fixed = warmed(learner, windows)
    with torch.no_grad():
        before = learner.agent.policy(features_of(learner, fixed))

    def gradient(distance: float) -> Tensor:
        assign(parameters, old + distance * direction)
        after = learner.agent.policy(features_of(learner, fixed))
        return flat_gradient(kl_divergence(before, after).mean(), parameters)

    # Two differences, whose errors of second order cancel.
    near, far = ((gradient(h) - gradient(-h)) / (2 * h) for h in (0.002, 0.004))
    assign(parameters, old)
    expected = (4 * near - far) / 3
    found = problem_of(learner, windows).fisher_vector_product(direction)
    assert expected.norm() > 1e-4
    assert (found - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("head", ["layers", "hypernetwork", "action_queries"])
def test_fisher_matrix_is_the_covariance_of_the_scores(head: str) -> None:
    env = corridor_trials(3)
    agent = make_agent(env, gain=30, policy_head=head, hidden_sizes=(6,))
    learner = make_learner(agent, env, "trpo")
    windows = minibatch_of(learner, env)
    direction, parameters = direction_of(learner), list(agent.parameters())
    log_probabilities = torch.log_softmax(agent.policy(features_of(learner, windows)).logits, -1)
    expected = torch.zeros_like(direction)
    for of_step in log_probabilities:
        for one in of_step:
            (*score,) = torch.autograd.grad(
                one, parameters, retain_graph=True, materialize_grads=True
            )
            flat = parameters_to_vector(score)
            expected += one.exp().detach() * (flat @ direction) * flat
    expected /= len(log_probabilities)
    found = problem_of(learner, windows).fisher_vector_product(direction)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_divergence_of_squashed_actions_is_that_of_the_normal_ones() -> None:
    env = point_trials(4)
    learner, windows = learner_and_windows(env)
    policy = learner.agent.policy
    with torch.no_grad():
        features = features_of(learner, windows)
        old, new = policy(features), policy(0.5 * features)
    normal = [Normal(one.loc, one.scale) for one in (old, new)]
    torch.testing.assert_close(kl_divergence(old, new), kl_divergence(*normal).sum(-1))
    # The mean of the logarithm of the ratio, over actions of the old policy.
    torch.manual_seed(0)
    drawn = old.sample((20_000,))
    sampled = (old.log_prob(drawn) - new.log_prob(drawn)).mean(0)
    torch.testing.assert_close(kl_divergence(old, new), sampled, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials, lock_trials])
def test_objective_is_the_surrogate_with_the_entropy_bonus(make_trials) -> None:
    learner, windows = learner_and_windows(make_trials(6))
    problem, parameters = problem_of(learner, windows, 0.3), list(learner.agent.parameters())
    before = problem.measure()
    assert before.divergence == pytest.approx(0, abs=1e-6)
    # Advantages are centred and all ratios are 1.
    assert before.objective == pytest.approx(0.3 * before.entropy, abs=1e-4)
    with torch.no_grad():
        old = learner.agent.policy(features_of(learner, windows))
        assign(parameters, weights(learner.agent) + direction_of(learner))
    new = learner.agent.policy(features_of(learner, windows))
    window = windows[keys.WINDOW]
    names = (keys.ACTION, keys.ACTION_LOG_PROB, keys.ADVANTAGE)
    steps = line_up_entries(window, {name: window[name] for name in names})
    assert len(steps) == window[keys.MASK].sum()
    ratio = (new.log_prob(steps[keys.ACTION]) - steps[keys.ACTION_LOG_PROB]).exp()
    expected = (ratio * steps[keys.ADVANTAGE].squeeze(-1)).mean() + 0.3 * new.entropy().mean()
    found = problem.measure()
    assert found.objective == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    assert found.divergence == pytest.approx(kl_divergence(old, new).mean().item(), rel=1e-2)
    torch.testing.assert_close(
        problem.gradient(), flat_gradient(expected, parameters), rtol=1e-3, atol=1e-5
    )
