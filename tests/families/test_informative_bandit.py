"""The informative bandit: the reward of each arm for each target."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.families.informative_bandit import TARGET_ARM, InformativeBandit
from tests.families.bandits import pull


def test_what_every_arm_pays_for_every_target() -> None:
    env = InformativeBandit(10)
    tasks = TensorDict({TARGET_ARM: torch.eye(10)}, [10])
    env.reset(TensorDict({keys.TASK: tasks}, [10]))
    for arm in range(10):
        played = pull(env, torch.full((10,), arm))
        assert played.reward.flatten().tolist() == [1.0] * arm + [5.0] + [1.0] * (9 - arm)
        assert played.episode_done.all()
        assert played.terminated.all()
    told = pull(env, torch.full((10,), 10)).reward.flatten().tolist()
    assert told == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0])


def test_each_row_pulls_its_own_arm() -> None:
    env = InformativeBandit(3)
    tasks = TensorDict({TARGET_ARM: torch.eye(10)[[2, 2, 6]]}, [3])
    env.reset(TensorDict({keys.TASK: tasks}, [3]))
    reward = pull(env, torch.tensor([2, 3, 10])).reward.flatten()
    assert reward.tolist() == pytest.approx([5, 1, 0.7])


def test_any_arm_but_the_informative_one_may_be_the_target() -> None:
    env = InformativeBandit(1)
    env.set_seed(1)
    targets = env.sample_tasks(40_000)[TARGET_ARM]
    assert targets.shape == (40_000, 10)
    assert (targets.sum(1) == 1).all()
    torch.testing.assert_close(targets.mean(0), torch.full((10,), 0.1), atol=0.007, rtol=0)
