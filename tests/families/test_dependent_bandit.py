"""Two arms that depend on each other: the distribution of their probabilities."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.env import ARM_PROBABILITIES
from rl2_lightning.families.dependent_bandit import DependentBandit
from tests.families.bandits import pull

NUM_TASKS = 40_000


def sample(worse_arm: float | None) -> torch.Tensor:
    env = DependentBandit(1, worse_arm=worse_arm)
    env.set_seed(1)
    return env.sample_tasks(NUM_TASKS)[ARM_PROBABILITIES]


@pytest.mark.parametrize("worse_arm", [None, 0.1, 0.25, 0.4, 0.0])
def test_the_second_arm_is_one_minus_the_first(worse_arm: float | None) -> None:
    arms = sample(worse_arm)
    assert arms.shape == (NUM_TASKS, 2)
    assert arms.dtype == torch.float32
    torch.testing.assert_close(arms.sum(1), torch.ones(NUM_TASKS))


@pytest.mark.parametrize("worse_arm", [0.1, 0.25, 0.4])
def test_either_arm_is_the_better_one_equally_often(worse_arm: float) -> None:
    first = sample(worse_arm)[:, 0]
    is_better = first > 0.5
    torch.testing.assert_close(
        first, torch.where(is_better, torch.tensor(1 - worse_arm), torch.tensor(worse_arm))
    )
    assert is_better.float().mean().item() == pytest.approx(0.5, abs=4 * 0.5 / NUM_TASKS**0.5)


def test_without_a_worse_arm_the_first_is_uniform() -> None:
    first = sample(None)[:, 0]
    shares = torch.histc(first, 10, 0, 1) / NUM_TASKS
    torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.007, rtol=0)


def test_arms_pay_as_often_as_they_should() -> None:
    env = DependentBandit(NUM_TASKS, worse_arm=0.1)
    env.set_seed(2)
    tasks = TensorDict(
        {ARM_PROBABILITIES: torch.tensor([0.1, 0.9]).expand(NUM_TASKS, 2)}, [NUM_TASKS]
    )
    env.reset(TensorDict({keys.TASK: tasks}, [NUM_TASKS]))
    for arm, probability in enumerate([0.1, 0.9]):
        reward = pull(env, torch.full((NUM_TASKS,), arm)).reward
        assert reward.mean().item() == pytest.approx(probability, abs=4 * 0.3 / NUM_TASKS**0.5)


@pytest.mark.parametrize(("worse_arm", "bound"), [(-0.1, "at least 0"), (0.6, "at most 0.5")])
def test_an_impossible_probability_is_refused(worse_arm: float, bound: str) -> None:
    told = rf"^env.worse_arm={worse_arm} is out of range: set it to {bound}$"
    with pytest.raises(UserError, match=told):
        DependentBandit(3, worse_arm=worse_arm)
