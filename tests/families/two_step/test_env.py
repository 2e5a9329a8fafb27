"""The two-step task: transitions, rewards, reversals."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.task_env import Transition
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.families.two_step import TwoStep
from rl2_lightning.families.two_step.env import REWARD_PROBABILITIES

NUM_TASKS = 40_000
FIRST_IS_BETTER = torch.tensor([0.9, 0.1])


def start(env: TwoStep, probabilities: torch.Tensor = FIRST_IS_BETTER) -> torch.Tensor:
    """Reset to the same task in all rows, and return the observation."""
    whole = probabilities.expand(env.num_tasks, 2)
    tasks = TensorDict({REWARD_PROBABILITIES: whole}, [env.num_tasks])
    return env.reset(TensorDict({keys.TASK: tasks}, [env.num_tasks]))[keys.OBSERVATION]


def play(env: TwoStep, number: int, playing: bool = True) -> Transition:
    """Take the same action in all rows."""
    rows = torch.full((env.num_tasks, 1), playing)
    return env.play(actions(number, env.num_tasks), rows)


def actions(number: int, num_tasks: int = NUM_TASKS) -> torch.Tensor:
    return torch.full((num_tasks,), number)


def test_either_state_is_the_better_one_at_first() -> None:
    env = TwoStep(1, reward_probability=0.8)
    env.set_seed(1)
    tasks = env.sample_tasks(NUM_TASKS)[REWARD_PROBABILITIES]
    torch.testing.assert_close(tasks.sum(1), torch.ones(NUM_TASKS))
    torch.testing.assert_close(tasks.amax(1), torch.full((NUM_TASKS,), 0.8))
    assert (tasks[:, 0] > 0.5).float().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("action", [0, 1])
def test_an_action_leads_to_its_state_by_the_common_transition(action: int) -> None:
    env = TwoStep(NUM_TASKS, common_probability=0.75)
    env.set_seed(2)
    assert torch.equal(start(env), torch.eye(3)[0].expand(NUM_TASKS, 3))
    played = play(env, action)
    shares = played.observation.mean(0).tolist()
    assert shares[0] == 0
    assert shares[1 + action] == pytest.approx(0.75, abs=0.01)
    assert not played.reward.any(), "the first step pays nothing"
    assert not played.episode_done.any()


@pytest.mark.parametrize("second_action", [0, 1])
def test_a_state_pays_whatever_is_done_there(second_action: int) -> None:
    env = TwoStep(NUM_TASKS)
    env.set_seed(3)
    start(env)
    state = play(env, 0).observation.argmax(1)
    expected = env.expected_reward(actions(second_action)).squeeze(1)
    assert torch.equal(expected, FIRST_IS_BETTER[state - 1])
    played = play(env, second_action)
    reward = played.reward.squeeze(1)
    assert set(reward.unique().tolist()) == {0.0, 1.0}
    assert reward[state == 1].mean().item() == pytest.approx(0.9, abs=0.01)
    assert reward[state == 2].mean().item() == pytest.approx(0.1, abs=0.015)
    assert played.terminated.all()
    assert played.episode_done.all()


def test_the_first_step_is_expected_to_pay_nothing() -> None:
    env = TwoStep(5)
    start(env)
    assert not env.expected_reward(actions(1, 5)).any()


def test_the_states_swap_after_an_episode_as_often_as_they_should() -> None:
    env = TwoStep(NUM_TASKS, common_probability=1.0, reversal_probability=0.2)
    env.set_seed(4)
    start(env)
    every = torch.ones(NUM_TASKS, 1, dtype=torch.bool)
    better = torch.ones(NUM_TASKS, dtype=torch.bool)
    for _ in range(3):
        play(env, 0)
        present = env.expected_reward(actions(0)).squeeze(1)
        assert torch.equal(present > 0.5, better), "nothing swaps within an episode"
        play(env, 0)
        env.start_episodes(every)
        swapped = (env._reward_probabilities[:, 0] > 0.5) != better
        assert swapped.float().mean().item() == pytest.approx(0.2, abs=0.01)
        better = better ^ swapped


def test_reversals_last_and_end_with_the_trial() -> None:
    law = {"common_probability": 1.0, "reward_probability": 1.0, "reversal_probability": 1.0}
    env = TrialEnv(TwoStep(50, **law), episodes_per_trial=3)
    tasks = TensorDict({REWARD_PROBABILITIES: torch.tensor([[1.0, 0.0]] * 50)}, [50])
    for _ in range(2):
        state = env.reset(TensorDict({keys.TASK: tasks}, [50]))
        rewards = []
        for _ in range(6):
            step = env.step(state.set(keys.ACTION, actions(0, 50)))
            state = step[keys.NEXT]
            rewards.append(state[keys.STEP_REWARD].mean().item())
        assert rewards == [0, 1, 0, 0, 0, 1]


def test_idle_rows_neither_move_nor_swap() -> None:
    env = TwoStep(NUM_TASKS, common_probability=1.0, reversal_probability=1.0)
    start(env)
    assert not play(env, 1, playing=False).observation[:, 1:].any()
    assert (play(env, 1).observation[:, 2] == 1).all()
    assert (play(env, 1, playing=False).observation[:, 2] == 1).all()
    assert torch.equal(env._reward_probabilities, FIRST_IS_BETTER.expand(NUM_TASKS, 2))


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"common_probability": 0.4}, "common_probability=0.4 is out of range: set it to at least"),
        (
            {"reward_probability": 1.1},
            "reward_probability=1.1 is out of range: set it to at most 1",
        ),
        ({"reversal_probability": -1}, "reversal_probability=-1.0 is out of range: set it to at"),
    ],
)
def test_an_impossible_probability_is_refused(setting: dict[str, float], line: str) -> None:
    with pytest.raises(UserError, match=rf"^env\.{line}"):
        TwoStep(3, **setting)
