"""Episodes are played as the action values say."""

import pytest
import torch

from rl2_lightning.oracles.tabular_mdp import play_episode
from tests.oracles.draws import mdps, random_mdps, seeded


def cycle(num_tasks: int, num_states: int = 3, num_actions: int = 2):
    """MDPs whose action 0 stays and whose others step on; they pay 100 * state + 10 * action."""
    states, actions = torch.arange(num_states), torch.arange(num_actions)
    following = (states[:, None] + (actions > 0)) % num_states
    rewards = 100.0 * states[:, None] + 10 * actions
    shape = (num_tasks, num_states, num_actions)
    transitions = torch.eye(num_states)[following]
    return mdps(rewards.expand(shape), transitions.expand(*shape, num_states))


def test_the_best_action_of_each_step_and_state_is_taken():
    # What to do in states 0, 1, 2 at each of four steps.
    plan = torch.tensor([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]])
    values = torch.eye(2)[plan].unsqueeze(1).expand(4, 5, 3, 2)
    states, actions, rewards = play_episode(cycle(5), values, seeded(0))
    assert states.T.tolist() == [[0, 1, 2, 2]] * 5
    assert actions.T.tolist() == [[1, 1, 0, 0]] * 5
    expected = torch.tensor([10.0, 110.0, 200.0, 200.0]).unsqueeze(1)
    assert (rewards - expected).abs().max() < 5
    assert (rewards != expected).all()


def test_each_task_follows_its_own_values():
    values = torch.zeros(2, 3, 3, 3)
    for row in range(3):
        values[:, row, :, row] = 1
    episode = play_episode(cycle(3, num_actions=3), values, seeded(0))
    assert episode.actions[0].tolist() == [0, 1, 2]
    assert episode.states[1].tolist() == [0, 1, 1]


def test_equal_values_are_chosen_alike():
    values = torch.tensor([0.0, 2.0, 1.0, 2.0]).expand(1, 40_000, 1, 4)
    tasks = cycle(40_000, num_states=1, num_actions=4)
    counts = torch.bincount(play_episode(tasks, values, seeded(0)).actions[0], minlength=4)
    assert counts[[0, 2]].tolist() == [0, 0]
    assert counts[[1, 3]].tolist() == pytest.approx([20_000] * 2, abs=400)


def test_epsilon_is_the_share_of_random_actions():
    values = torch.tensor([0.0, 0.0, 1.0, 0.0]).expand(1, 40_000, 1, 4)
    tasks = cycle(40_000, num_states=1, num_actions=4)
    actions = play_episode(tasks, values, seeded(0), epsilon=0.4).actions[0]
    counts = torch.bincount(actions, minlength=4).tolist()
    assert counts == pytest.approx([4000, 4000, 28_000, 4000], abs=350)


def test_an_episode_does_not_touch_the_tasks():
    tasks = random_mdps(10, seed=0)
    before = tasks.clone()
    play_episode(tasks, torch.zeros(3, 10, 10, 5), seeded(1))
    assert (tasks == before).all()
