"""Tabular MDPs: their distribution, rewards and transitions, and episodes of a fixed length."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.tabular_mdp import TabularMDP
from rl2_lightning.families.tabular_mdp.players import MEAN_REWARDS, TRANSITION_PROBABILITIES
from rl2_lightning.families.task_env import Transition
from rl2_lightning.families.trial_env import TrialEnv


def start(env: TabularMDP, mean_rewards: torch.Tensor, transitions: torch.Tensor) -> torch.Tensor:
    """Reset to the same MDP in all rows, and return the observation."""
    tasks = TensorDict(
        {
            MEAN_REWARDS: mean_rewards.expand(env.num_tasks, -1, -1),
            TRANSITION_PROBABILITIES: transitions.expand(env.num_tasks, -1, -1, -1),
        },
        [env.num_tasks],
    )
    return env.reset(TensorDict({keys.TASK: tasks}, [env.num_tasks]))[keys.OBSERVATION]


def play(env: TabularMDP, action: torch.Tensor, playing: bool = True) -> Transition:
    return env.play(action, torch.full((env.num_tasks, 1), playing))


def test_mean_rewards_are_standard_normal_around_one() -> None:
    env = TabularMDP(1, num_states=3, num_actions=2)
    env.set_seed(1)
    rewards = env.sample_tasks(20_000)[MEAN_REWARDS]
    assert rewards.shape == (20_000, 3, 2)
    torch.testing.assert_close(rewards.mean(0), torch.ones(3, 2), atol=0.03, rtol=0)
    torch.testing.assert_close(rewards.var(0), torch.ones(3, 2), atol=0.05, rtol=0)
    torch.testing.assert_close(
        torch.corrcoef(rewards.flatten(1).T), torch.eye(6), atol=0.03, rtol=0
    )


def test_transitions_are_flat_dirichlet() -> None:
    env = TabularMDP(1, num_states=4, num_actions=2)
    env.set_seed(2)
    transitions = env.sample_tasks(20_000)[TRANSITION_PROBABILITIES]
    assert transitions.shape == (20_000, 4, 2, 4)
    torch.testing.assert_close(transitions.sum(-1), torch.ones(20_000, 4, 2))
    assert transitions.min() >= 0
    # A flat Dirichlet distribution over 4 has mean 1/4, variance 3/80 and covariance -1/80.
    vectors = transitions.view(-1, 4)
    expected = torch.full((4, 4), -1 / 80) + torch.eye(4) * 4 / 80
    torch.testing.assert_close(vectors.mean(0), torch.full((4,), 0.25), atol=0.002, rtol=0)
    torch.testing.assert_close(torch.cov(vectors.T), expected, atol=0.001, rtol=0)
    # Each entry follows P(p > x) = (1 - x)^3.
    share = (vectors > 0.5).float().mean(0)
    torch.testing.assert_close(share, torch.full((4,), 0.125), atol=0.004, rtol=0)
    # And rows are independent of each other.
    between = torch.corrcoef(transitions[..., 0].flatten(1).T)
    torch.testing.assert_close(between, torch.eye(8), atol=0.03, rtol=0)


def test_rewards_are_normal_around_the_mean_of_state_and_action() -> None:
    num_tasks = 40_000
    env = TabularMDP(num_tasks, num_states=2, num_actions=2)
    env.set_seed(3)
    means = torch.tensor([[-1.0, 4.0], [10.0, 20.0]])
    to_itself = torch.eye(2)[:, None, :].expand(2, 2, 2)
    start(env, means, to_itself)
    for action, mean in enumerate(means[0].tolist()):
        reward = play(env, torch.full((num_tasks,), action)).reward
        assert reward.shape == (num_tasks, 1)
        assert reward.mean().item() == pytest.approx(mean, abs=4 / num_tasks**0.5)
        assert reward.var().item() == pytest.approx(1, abs=0.03)
        assert ((reward - mean).abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.01)


def test_states_follow_the_probabilities_of_state_and_action() -> None:
    num_tasks = 40_000
    env = TabularMDP(num_tasks, num_states=4, num_actions=2)
    env.set_seed(4)
    rows = [[0.0, 0.2, 0.7, 0.1], [0.4, 0.0, 0.0, 0.6]]
    transitions = torch.tensor([rows, [[0.0, 1, 0, 0]] * 2, [[0.0, 0, 1, 0]] * 2, [rows[1]] * 2])
    for action, probabilities in enumerate(rows):
        start(env, torch.zeros(4, 2), transitions)
        actions = torch.full((num_tasks,), action)
        observation = play(env, actions).observation
        assert (observation.sum(1) == 1).all()
        torch.testing.assert_close(
            observation.mean(0), torch.tensor(probabilities), atol=0.01, rtol=0
        )
        assert (observation.sum(0)[torch.tensor(probabilities) == 0] == 0).all()
    # The walk continues from state 3, or starts again from state 0.
    second = play(env, actions).observation
    assert (second[observation[:, 0] == 1].mean(0) - torch.tensor(rows[1])).abs().max() < 0.02
    assert (second[observation[:, 3] == 1].mean(0) - torch.tensor(rows[1])).abs().max() < 0.02


def test_each_row_plays_its_own_mdp() -> None:
    env = TabularMDP(3, num_states=3, num_actions=2)
    to_row = torch.eye(3)[:, None, None, :].expand(3, 3, 2, 3)
    means = 1000.0 * torch.arange(6).view(3, 1, 2).expand(3, 3, 2)
    tasks = TensorDict({MEAN_REWARDS: means, TRANSITION_PROBABILITIES: to_row}, [3])
    env.reset(TensorDict({keys.TASK: tasks}, [3]))
    played = play(env, torch.tensor([0, 1, 1]))
    assert played.observation.argmax(1).tolist() == [0, 1, 2]
    assert (played.reward.flatten() / 1000).round().tolist() == [0, 3, 5]


def test_an_episode_starts_in_state_0_and_lasts_the_horizon() -> None:
    env = TabularMDP(20, horizon=3)
    env.set_seed(5)
    first = torch.eye(10)[0].expand(20, 10)
    assert torch.equal(env.reset()[keys.OBSERVATION], first)
    action = torch.zeros(20, dtype=torch.int64)
    played = [play(env, action) for _ in range(3)]
    assert [step.episode_done.all().item() for step in played] == [False, False, True]
    assert [step.episode_done.any().item() for step in played] == [False, False, True]
    assert not any(step.terminated.any() for step in played)
    assert not torch.equal(played[-1].observation, first)
    rows = torch.zeros(20, 1, dtype=torch.bool)
    rows[::2] = True
    started = env.start_episodes(rows)
    assert torch.equal(started[::2], first[::2])
    assert torch.equal(started[1::2], played[-1].observation[1::2])


def test_idle_rows_stay_where_they_are() -> None:
    env = TabularMDP(2, num_states=2, num_actions=2)
    start(env, torch.zeros(2, 2), torch.tensor([0.0, 1.0]).expand(2, 2, 2))
    action = torch.zeros(2, dtype=torch.int64)
    assert play(env, action, playing=False).observation[:, 0].tolist() == [1, 1]
    assert play(env, action).observation[:, 1].tolist() == [1, 1]


def test_a_trial_keeps_its_mdp_and_goes_back_to_state_0() -> None:
    env = TrialEnv(TabularMDP(50, horizon=4), episodes_per_trial=3)
    env.set_seed(6)
    trials = env.rollout(12)
    states = trials[keys.OBSERVATION].argmax(-1)
    assert (states[:, ::4] == 0).all()
    assert (states[:, 3] > 0).any()
    ends = trials[keys.EPISODE_DONE].squeeze(-1)
    assert ends[:, 3::4].all()
    assert ends.sum() == 150
    assert trials[keys.DONE].squeeze(-1)[:, -1].all()


@pytest.mark.parametrize(
    ("sizes", "line"),
    [
        ({"num_states": 0}, "num_states=0 is out of range: set it to at least 1"),
        ({"num_actions": 1}, "num_actions=1 is out of range: set it to at least 2"),
        ({"horizon": 0}, "horizon=0 is out of range: set it to at least 1"),
    ],
)
def test_wrong_sizes_are_refused(sizes: dict[str, int], line: str) -> None:
    with pytest.raises(UserError, match=rf"^env\.{line}$"):
        TabularMDP(3, **sizes)


def test_one_state_is_possible() -> None:
    env = TabularMDP(5, num_states=1, num_actions=2)
    assert torch.equal(env.reset()[keys.OBSERVATION], torch.ones(5, 1))
    assert torch.equal(play(env, torch.ones(5, dtype=torch.int64)).observation, torch.ones(5, 1))


def test_the_expected_reward_is_that_of_state_and_action() -> None:
    env = TabularMDP(3, num_states=2, num_actions=2)
    means = torch.arange(12.0).view(3, 2, 2)
    to_state_1 = torch.tensor([0.0, 1.0]).expand(3, 2, 2, 2).clone()
    start(env, means, to_state_1)
    actions = torch.tensor([0, 1, 0])
    assert env.expected_reward(actions).tolist() == [[0], [5], [8]]
    play(env, actions)
    assert env.expected_reward(actions).tolist() == [[2], [7], [10]]
