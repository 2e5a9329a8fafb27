"""Players of the two-step task: beliefs and values by hand, and the optimum by brute force."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning.families.play import play_reference, play_reference_trials
from rl2_lightning.families.two_step import TwoStep
from rl2_lightning.families.two_step.choice_regression import choices_of
from rl2_lightning.families.two_step.players import ModelBased, ModelFree
from rl2_lightning.inputs import Inputs
from tests.families.draws import seeded

NUM_EPISODES = 100
STATES = torch.eye(3)
ONE_TASK = TensorDict(batch_size=[1], device="cpu")


def learn(player, memory, action: int, state: int, reward: float):
    """The memory after an episode that led to state 1 or 2."""
    first, second = STATES[:1], STATES[state].unsqueeze(0)
    one, zero = torch.ones(1, 1), torch.zeros(1, 1)
    reached = Inputs(second, torch.tensor([action]), zero, zero, first)
    memory = player.learn(memory, first, reached)
    ended = Inputs(first, torch.tensor([1 - action]), reward * one, one, second)
    return player.learn(memory, second, ended)


def sample(num_tasks: int, seed: int, **settings: float):
    env = TwoStep(num_tasks, **settings)
    env.set_seed(seed)
    return env, env.sample_tasks(num_tasks)


def test_the_belief_of_the_model_based_player():
    player = ModelBased(0.9, 0.025)
    memory = player.start(ONE_TASK)
    assert memory.tolist() == [0.5]
    # A reward in state 1: 0.9, then 2.5 % reversals.
    memory = learn(player, memory, 0, 1, 1.0)
    assert memory.item() == pytest.approx(0.9 * 0.975 + 0.1 * 0.025)
    # No reward in state 2, by any action, has the same effect.
    belief = 0.88 * 0.9 / (0.88 * 0.9 + 0.12 * 0.1)
    memory = learn(player, memory, 0, 2, 0.0)
    assert memory.item() == pytest.approx(belief * 0.975 + (1 - belief) * 0.025)
    # A reward there is evidence against state 1.
    assert learn(player, torch.tensor([0.5]), 1, 2, 1.0).item() == pytest.approx(0.12)


def test_certain_rewards_leave_no_doubt():
    player = ModelBased(1.0, 0.0)
    memory = player.start(ONE_TASK)
    for _ in range(3):
        memory = learn(player, memory, 0, 2, 0.0)
        assert memory.tolist() == [1.0]


def test_the_model_based_player_goes_to_the_better_state():
    actions = ModelBased(0.9, 0.025).choose(torch.tensor([0.6, 0.4]), STATES[:2], seeded(0))
    assert actions.tolist() == [0, 1]


def test_the_values_of_the_model_free_player():
    player = ModelFree()
    memory = player.start(ONE_TASK)
    memory = learn(player, memory, 0, 2, 1.0)  # the state does not matter
    assert memory.of_actions.tolist() == [[0.75, 0.5]]
    memory = learn(player, memory, 1, 2, 0.0)
    assert memory.of_actions.tolist() == [[0.75, 0.25]]
    many = memory._replace(of_actions=memory.of_actions.expand(40_000, 2))
    share = player.choose(many, STATES[:1], seeded(0)).float().mean().item()
    assert share == pytest.approx(1 / (1 + 2.718281828**2.5), abs=0.005)


@pytest.fixture(params=TwoStep(1).players(1))
def player(request):
    return TwoStep(1).players(NUM_EPISODES)[request.param]


def test_returns_are_rewards_of_single_episodes(player):
    env, tasks = sample(20, seed=0)
    before = tasks.clone()
    # Tensors created on another device than the tasks' would raise an error.
    with torch.device("meta"):
        returns = play_reference(player, env, tasks, NUM_EPISODES, seeded(1))
    assert returns.shape == (20, NUM_EPISODES)
    assert returns.dtype == torch.float32
    assert set(returns.unique().tolist()) == {0.0, 1.0}
    assert (tasks == before).all()
    assert torch.equal(play_reference(player, env, tasks, NUM_EPISODES, seeded(1)), returns)
    assert not torch.equal(play_reference(player, env, tasks, NUM_EPISODES, seeded(2)), returns)


def test_choices_follow_the_law(player):
    env, tasks = sample(2000, seed=2)
    choices = choices_of(play_reference_trials(player, env, tasks, 20, seeded(3)))
    assert [entry.shape for entry in choices] == [(2000, 20)] * 3
    assert choices.is_common.float().mean().item() == pytest.approx(0.75, abs=0.01)
    # In the first episode nothing is known: 0.5 on average.
    assert choices.reward[:, 0].mean().item() == pytest.approx(0.5, abs=0.04)


def test_players_know_what_the_environment_plays():
    players = TwoStep(1, reward_probability=0.8, reversal_probability=0.1).players(5)
    assert list(players) == ["random", "model_free", "model_based"]
    player = players["model_based"]
    assert (player.reward_probability, player.reversal_probability) == (0.8, 0.1)


def brute_force_value(common: float, high: float, swaps: float, num_episodes: int) -> float:
    """The Bellman equation over the belief, with all possible outcomes of an episode."""

    def value(belief: float, left: int) -> float:
        return max(value_of(belief, action, left) for action in (0, 1)) if left else 0.0

    def value_of(belief: float, action: int, left: int) -> float:
        total = 0.0
        for state in (0, 1):
            reach = common if state == action else 1 - common
            is_better = belief if state == 0 else 1 - belief
            for reward in (0, 1):
                likely = high if reward else 1 - high
                chance = is_better * likely + (1 - is_better) * (1 - likely)
                after = is_better * likely / chance
                first = after if state == 0 else 1 - after
                following = first * (1 - swaps) + (1 - first) * swaps
                total += reach * chance * (reward + value(following, left - 1))
        return total

    return value(0.5, num_episodes)


def test_the_model_based_player_is_the_optimum():
    expected = brute_force_value(0.75, 0.8, 0.1, num_episodes=5)
    env, tasks = sample(100_000, seed=4, reward_probability=0.8, reversal_probability=0.1)
    returns = play_reference(env.players(5)["model_based"], env, tasks, 5, seeded(5)).sum(1)
    standard_error = returns.std().item() / len(returns) ** 0.5
    assert returns.mean().item() == pytest.approx(expected, abs=3 * standard_error)


def test_the_players_stand_in_their_order():
    env, tasks = sample(2000, seed=6)
    means = {
        name: play_reference(player, env, tasks, NUM_EPISODES, seeded(7)).sum(1).mean().item()
        for name, player in env.players(NUM_EPISODES).items()
    }
    assert means["random"] == pytest.approx(50, abs=0.5)
    assert means["random"] + 4 < means["model_free"] < means["model_based"] - 4
