"""Players of the two-step task: beliefs and values by hand, and the optimum by brute force."""

import pytest
import torch

from rl2_lightning.envs.two_step import TwoStep
from rl2_lightning.oracles.two_step import ModelBased, ModelFree, TwoStepLaw, two_step_oracles
from tests.oracles.draws import seeded

LAW = TwoStepLaw(0.75, 0.9, 0.025)
NUM_EPISODES = 100


def learn(player, memory: torch.Tensor, action: int, state: int, reward: float) -> torch.Tensor:
    entries = (torch.tensor([action]), torch.tensor([state]), torch.tensor([reward]))
    return player.learn(memory, *entries)


def test_the_belief_of_the_model_based_player():
    player = ModelBased(LAW)
    memory = player.start(torch.zeros(1, 2))
    assert memory.tolist() == [0.5]
    # A reward in the first state: 0.9, and then 2.5 % of reversals.
    memory = learn(player, memory, 0, 0, 1.0)
    assert memory.item() == pytest.approx(0.9 * 0.975 + 0.1 * 0.025)
    # None in the second one, by whatever action, says as much.
    belief = 0.88 * 0.9 / (0.88 * 0.9 + 0.12 * 0.1)
    memory = learn(player, memory, 0, 1, 0.0)
    assert memory.item() == pytest.approx(belief * 0.975 + (1 - belief) * 0.025)
    # And one there speaks against it.
    assert learn(player, torch.tensor([0.5]), 1, 1, 1.0).item() == pytest.approx(0.12)


def test_certain_rewards_leave_no_doubt():
    player = ModelBased(TwoStepLaw(0.75, 1.0, 0.0))
    memory = player.start(torch.zeros(1, 2))
    for _ in range(3):
        memory = learn(player, memory, 0, 1, 0.0)
        assert memory.tolist() == [1.0]


def test_the_model_based_player_goes_to_the_better_state():
    arms = ModelBased(LAW).choose(torch.tensor([0.6, 0.4]), seeded(0))
    assert arms.tolist() == [0, 1]


def test_the_values_of_the_model_free_player():
    player = ModelFree(LAW)
    memory = player.start(torch.zeros(1, 2))
    memory = learn(player, memory, 0, 1, 1.0)  # whichever state it was
    assert memory.tolist() == [[0.75, 0.5]]
    memory = learn(player, memory, 1, 1, 0.0)
    assert memory.tolist() == [[0.75, 0.25]]
    many = memory.expand(40_000, 2)
    share = player.choose(many, seeded(0)).float().mean().item()
    assert share == pytest.approx(1 / (1 + 2.718281828**2.5), abs=0.005)


@pytest.fixture(params=two_step_oracles(LAW))
def oracle(request):
    return two_step_oracles(LAW)[request.param]


def test_returns_are_rewards_of_single_episodes(oracle):
    tasks = LAW.sample(20, seeded(0))
    before = tasks.clone()
    # Anything that is created on another device than the tasks' cannot meet their tensors.
    with torch.device("meta"):
        returns = oracle.play(tasks, NUM_EPISODES, seeded(1))
    assert returns.shape == (20, NUM_EPISODES)
    assert returns.dtype == torch.float32
    assert set(returns.unique().tolist()) == {0.0, 1.0}
    assert (tasks == before).all()
    assert torch.equal(oracle.play(tasks, NUM_EPISODES, seeded(1)), returns)
    assert not torch.equal(oracle.play(tasks, NUM_EPISODES, seeded(2)), returns)


def test_choices_follow_the_law(oracle):
    choices = oracle.play_choices(LAW.sample(2000, seeded(2)), 20, seeded(3))
    assert [entry.shape for entry in choices] == [(2000, 20)] * 3
    assert choices.is_common.float().mean().item() == pytest.approx(0.75, abs=0.01)
    # In the first episode nothing is known: 0.5 on average.
    assert choices.reward[:, 0].mean().item() == pytest.approx(0.5, abs=0.04)


def test_players_know_what_the_environment_plays():
    assert list(TwoStep(1).oracles(5)) == ["random", "model_free", "model_based"]
    assert TwoStep(1).oracles(5)["model_based"].law == LAW


def brute_force_value(law: TwoStepLaw, num_episodes: int) -> float:
    """The Bellman equation over the belief, with all that an episode can bring."""
    high, swaps = law.reward_probability, law.reversal_probability

    def value(belief: float, left: int) -> float:
        return max(value_of(belief, action, left) for action in (0, 1)) if left else 0.0

    def value_of(belief: float, action: int, left: int) -> float:
        total = 0.0
        for state in (0, 1):
            reach = law.common_probability if state == action else 1 - law.common_probability
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
    law = TwoStepLaw(0.75, 0.8, 0.1)
    expected = brute_force_value(law, 5)
    returns = ModelBased(law).play(law.sample(100_000, seeded(4)), 5, seeded(5)).sum(1)
    standard_error = returns.std().item() / len(returns) ** 0.5
    assert returns.mean().item() == pytest.approx(expected, abs=3 * standard_error)


def test_the_players_stand_in_their_order():
    tasks = LAW.sample(2000, seeded(6))
    means = {
        name: player.play(tasks, NUM_EPISODES, seeded(7)).sum(1).mean().item()
        for name, player in two_step_oracles(LAW).items()
    }
    assert means["random"] == pytest.approx(50, abs=0.5)
    assert means["random"] + 4 < means["model_free"] < means["model_based"] - 4
