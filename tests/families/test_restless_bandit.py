"""Restless bandits: the initial p, its drift, and its continuity over the whole trial."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.restless_bandit import FIRST_ARM_PROBABILITY, VOLATILITY, RestlessBandit
from rl2_lightning.families.trial_env import TrialEnv
from tests.families.bandits import pull

NUM_TASKS = 40_000


def restless(start: float, volatility: float, num_tasks: int = NUM_TASKS) -> TensorDict:
    whole = torch.ones(num_tasks, 1)
    return TensorDict(
        {FIRST_ARM_PROBABILITY: start * whole, VOLATILITY: volatility * whole},
        [num_tasks],
    )


def start(env: RestlessBandit, tasks: TensorDict) -> None:
    env.reset(TensorDict({keys.TASK: tasks}, [env.num_tasks]))


def first_arm(env: RestlessBandit) -> torch.Tensor:
    """The current probability of the first arm."""
    return env.expected_reward(torch.zeros(env.num_tasks, dtype=torch.int64))


def test_half_of_the_tasks_are_volatile() -> None:
    env = RestlessBandit(1, low_volatility=0.01, high_volatility=0.3)
    env.set_seed(1)
    tasks = env.sample_tasks(NUM_TASKS)
    shares = torch.histc(tasks[FIRST_ARM_PROBABILITY], 10, 0, 1) / NUM_TASKS
    torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.007, rtol=0)
    volatility = tasks[VOLATILITY]
    assert volatility.unique().tolist() == pytest.approx([0.01, 0.3])
    assert (volatility > 0.1).float().mean().item() == pytest.approx(0.5, abs=0.01)
    # The initial p is independent of the volatility.
    means = [tasks[FIRST_ARM_PROBABILITY][volatility > 0.1].mean(), 0.5]
    assert means[0].item() == pytest.approx(means[1], abs=0.01)


@pytest.mark.parametrize("arm", [0, 1])
def test_arms_pay_with_p_and_the_rest(arm: int) -> None:
    env = RestlessBandit(NUM_TASKS)
    env.set_seed(2)
    start(env, restless(0.2, 0.0))
    played = pull(env, torch.full((NUM_TASKS,), arm))
    assert set(played.reward.unique().tolist()) == {0.0, 1.0}
    assert played.reward.mean().item() == pytest.approx([0.2, 0.8][arm], abs=0.01)
    assert played.episode_done.all()
    assert played.terminated.all()


def test_the_drift_is_a_gaussian_walk() -> None:
    env = RestlessBandit(NUM_TASKS)
    env.set_seed(3)
    start(env, restless(0.5, 0.02))
    assert (first_arm(env) == 0.5).all(), "the first pull is made before any drift"
    for pulls in range(1, 5):
        pull(env, torch.zeros(NUM_TASKS, dtype=torch.int64))
        moved = first_arm(env) - 0.5
        assert moved.mean().item() == pytest.approx(0, abs=0.001)
        assert moved.std().item() == pytest.approx(0.02 * pulls**0.5, rel=0.03)


def test_the_walk_is_reflected() -> None:
    env = RestlessBandit(NUM_TASKS)
    env.set_seed(4)
    start(env, restless(0.0, 0.1))
    pull(env, torch.zeros(NUM_TASKS, dtype=torch.int64))
    # From the edge, p is the absolute value of the step: its mean is 0.1 sqrt(2 / pi).
    assert first_arm(env).mean().item() == pytest.approx(0.0798, abs=0.001)
    start(env, restless(1.0, 0.1))
    pull(env, torch.zeros(NUM_TASKS, dtype=torch.int64))
    assert first_arm(env).mean().item() == pytest.approx(1 - 0.0798, abs=0.001)


def test_uniform_probabilities_stay_uniform() -> None:
    env = RestlessBandit(NUM_TASKS, low_volatility=0.05, high_volatility=1.0)
    env.set_seed(5)
    env.reset()
    for _ in range(20):
        pull(env, torch.zeros(NUM_TASKS, dtype=torch.int64))
    present = first_arm(env)
    assert present.min() >= 0
    assert present.max() <= 1
    shares = torch.histc(present, 10, 0, 1) / NUM_TASKS
    torch.testing.assert_close(shares, torch.full((10,), 0.1), atol=0.007, rtol=0)


def test_the_drift_runs_through_a_trial_and_the_next_one_starts_anew() -> None:
    env = TrialEnv(RestlessBandit(50), episodes_per_trial=3)
    env.set_seed(6)
    tasks = restless(0.5, 0.1, num_tasks=50)
    for _ in range(2):
        state = env.reset(TensorDict({keys.TASK: tasks}, [50]))
        seen = [first_arm(env.task_env)]
        for _ in range(2):
            action = torch.zeros(50, dtype=torch.int64)
            state = env.step(state.set(keys.ACTION, action))[keys.NEXT]
            seen.append(first_arm(env.task_env))
        assert (seen[0] == 0.5).all()
        assert (seen[1] != seen[0]).all()
        assert (seen[2] != seen[1]).all()


def test_other_rows_drift_on() -> None:
    env = RestlessBandit(4)
    start(env, restless(0.5, 0.1, num_tasks=4))
    pull(env, torch.zeros(4, dtype=torch.int64))
    before = first_arm(env)
    rows = torch.tensor([[True], [False], [True], [False]])
    env.set_tasks(restless(0.9, 0.1, num_tasks=4), rows)
    assert (first_arm(env)[::2] == 0.9).all()
    assert torch.equal(first_arm(env)[1::2], before[1::2])


def test_rows_that_are_not_played_do_not_drift() -> None:
    env = RestlessBandit(4)
    start(env, restless(0.5, 0.1, num_tasks=4))
    env.play(torch.zeros(4, dtype=torch.int64), torch.tensor([[True], [False], [True], [False]]))
    assert (first_arm(env)[::2] != 0.5).all()
    assert (first_arm(env)[1::2] == 0.5).all()


@pytest.mark.parametrize("which", ["low", "high"])
@pytest.mark.parametrize(("value", "bound"), [(-0.1, "at least 0"), (1.5, "at most 1")])
def test_an_impossible_volatility_is_refused(which: str, value: float, bound: str) -> None:
    told = f"^env.{which}_volatility={value} is out of range: set it to {bound}$"
    with pytest.raises(UserError, match=told):
        RestlessBandit(3, **{f"{which}_volatility": value})


def test_the_low_volatility_is_not_above_the_high_one() -> None:
    with pytest.raises(UserError, match=r"^env.low_volatility=0.3 is above .*=0.1: .*values$"):
        RestlessBandit(3, low_volatility=0.3)
