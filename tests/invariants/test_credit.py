"""Credit crosses episode boundaries, and stops at trial boundaries."""

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.credit import clear_idle_steps, trial_advantages, valued_steps
from tests.builders import bandit_trials, collect, corridor_trials, make_agent, make_learner
from tests.views import view_trials

GAMMA, GAE_LAMBDA = 0.97, 0.8


def learner_of(env: TrialEnv, **critic: bool) -> ActorCriticLearner:
    return make_learner(make_agent(env), env, critic=critic, value_norm_decay=0.0)


def advantages_of(steps: TensorDictBase, values: Tensor) -> Tensor:
    return trial_advantages(steps, values, gamma=GAMMA, gae_lambda=GAE_LAMBDA)[0]


def test_credit_crosses_episodes_not_trials() -> None:
    env = bandit_trials(4)
    steps = collect(env, learner_of(env))[keys.STEPS]
    torch.manual_seed(0)
    values = torch.randn(steps[keys.REWARD].shape)
    before = advantages_of(steps, values)
    changed = steps.clone()
    changed[keys.REWARD][0, 1] += 1.0
    moved = advantages_of(changed, values) - before
    # Each step of a bandit is an episode: the second one's reward is also credited to the first.
    torch.testing.assert_close(moved[0, 0], torch.tensor([GAMMA * GAE_LAMBDA]))
    assert (moved[1:] == 0).all()
    assert (moved[0, 2:] == 0).all()


def test_gae_equals_a_literal_recursion() -> None:
    env = corridor_trials(8)
    trials = clear_idle_steps(collect(env, learner_of(env)), [0])
    steps = trials[keys.STEPS]
    torch.manual_seed(0)
    values = torch.randn(steps[keys.REWARD].shape, dtype=torch.float64)
    values = values.masked_fill(~steps[keys.MASK], 0)
    steps[keys.REWARD] = steps[keys.REWARD].double()
    found = advantages_of(steps, values)
    assert (~steps[keys.MASK]).any()
    for row in range(len(steps)):
        advantage = 0.0
        length = int(steps[keys.MASK][row].sum())
        for step in reversed(range(length)):
            following = values[row, step + 1].item() if step + 1 < length else 0.0
            reward = steps[keys.REWARD][row, step].item()
            delta = reward + GAMMA * following - values[row, step].item()
            advantage = delta + GAMMA * GAE_LAMBDA * advantage
            assert abs(found[row, step].item() - advantage) < 1e-12


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("make_trials", [bandit_trials, view_trials])
def test_a_cut_of_a_longer_life_bootstraps(make_trials, separate: bool) -> None:
    env = make_trials(3, continues=True)
    learner = learner_of(env, separate=separate)
    trials = learner.critic.add_values(collect(env, learner), [0])
    steps = trials[keys.STEPS]
    assert steps.batch_size == (3, env.max_steps + 1)
    learner.value_scale.update(torch.tensor([[0.0], [2.0]]))
    values = learner.values_of(steps)
    # The critic's value of the step after the cut, with all its inputs.
    network = learner.critic if separate else learner.agent
    with torch.no_grad():
        features, _ = network.unroll(inputs_of(steps), network.initial_state(3))
        shown = learner.critic.value(features, steps[keys.ELAPSED], None)
    rows, ends = torch.arange(3), steps[keys.MASK].sum(1).squeeze(1)
    assert not steps[keys.MASK][rows, ends].any()
    following = learner.value_scale.denormalize(shown[rows, ends])
    torch.testing.assert_close(values[rows, ends], following)
    advantages = advantages_of(clear_idle_steps(trials, [0])[keys.STEPS], values)
    last = ends - 1
    expected = steps[keys.REWARD][rows, last] + GAMMA * following - values[rows, last]
    torch.testing.assert_close(advantages[rows, last], expected)


def test_nothing_follows_a_trial_that_terminated() -> None:
    env = corridor_trials(9)
    learner = learner_of(env)
    steps = learner.critic.add_values(collect(env, learner), [0])[keys.STEPS]
    assert (~steps[keys.MASK]).any()
    assert torch.equal(valued_steps(steps), steps[keys.MASK])
    assert (learner.values_of(steps)[~steps[keys.MASK]] == 0).all()


def test_advantages_are_normalised_over_the_steps_that_count() -> None:
    env = corridor_trials(9)
    learner = learner_of(env)
    steps = learner.prepare(collect(env, learner), [0])[keys.STEPS]
    counted = steps[keys.ADVANTAGE][steps[keys.MASK]]
    torch.testing.assert_close(counted.mean(), torch.tensor(0.0), atol=1e-5, rtol=0)
    torch.testing.assert_close(counted.std(), torch.tensor(1.0))
