"""The two-step task: transitions, rewards, reversals, and choices read from trials."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.envs.trial_env import TrialEnv
from rl2_lightning.envs.two_step import TwoStep, choices_of
from rl2_lightning.errors import UserError

NUM_TASKS = 40_000
FIRST_IS_BETTER = torch.tensor([0.9, 0.1])


def start(env: TwoStep, probabilities: torch.Tensor = FIRST_IS_BETTER) -> torch.Tensor:
    """Resets to the same task in all rows; returns the observation."""
    whole = probabilities.expand(env.num_tasks, 2)
    tasks = TensorDict({keys.REWARD_PROBABILITIES: whole}, [env.num_tasks])
    return env.reset(TensorDict({keys.TASK: tasks}, [env.num_tasks]))[keys.OBSERVATION]


def actions(number: int, num_tasks: int = NUM_TASKS) -> torch.Tensor:
    return torch.full((num_tasks,), number)


def test_either_state_is_the_better_one_at_first() -> None:
    env = TwoStep(1, reward_probability=0.8)
    env.set_seed(1)
    tasks = env.sample_tasks(NUM_TASKS)[keys.REWARD_PROBABILITIES]
    torch.testing.assert_close(tasks.sum(1), torch.ones(NUM_TASKS))
    torch.testing.assert_close(tasks.amax(1), torch.full((NUM_TASKS,), 0.8))
    assert (tasks[:, 0] > 0.5).float().mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("action", [0, 1])
def test_an_action_leads_to_its_state_by_the_common_transition(action: int) -> None:
    env = TwoStep(NUM_TASKS, common_probability=0.75)
    env.set_seed(2)
    assert torch.equal(start(env), torch.eye(3)[0].expand(NUM_TASKS, 3))
    played = env.play(actions(action))
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
    state = env.play(actions(0)).observation.argmax(1)
    expected = env.expected_reward(actions(second_action)).squeeze(1)
    assert torch.equal(expected, FIRST_IS_BETTER[state - 1])
    played = env.play(actions(second_action))
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
        env.play(actions(0))
        present = env.expected_reward(actions(0)).squeeze(1)
        assert torch.equal(present > 0.5, better), "nothing swaps within an episode"
        env.play(actions(0))
        env.start_episodes(every)
        swapped = (env._reward_probabilities[:, 0] > 0.5) != better
        assert swapped.float().mean().item() == pytest.approx(0.2, abs=0.01)
        better = better ^ swapped


def test_reversals_last_and_end_with_the_trial() -> None:
    env = TrialEnv(TwoStep(50, 1.0, 1.0, reversal_probability=1.0), episodes_per_trial=3)
    tasks = TensorDict({keys.REWARD_PROBABILITIES: torch.tensor([[1.0, 0.0]] * 50)}, [50])
    for _ in range(2):
        state = env.reset(TensorDict({keys.TASK: tasks}, [50]))
        rewards = []
        for _ in range(6):
            step = env.step(state.set(keys.ACTION, actions(0, 50)))
            state = step[keys.NEXT]
            rewards.append(state[keys.STEP_REWARD].mean().item())
        assert rewards == [0, 1, 0, 0, 0, 1]


def test_choices_are_read_from_trials() -> None:
    env = TrialEnv(TwoStep(200, common_probability=0.75), steps_per_trial=9)
    env.set_seed(5)
    trials = env.rollout(9)
    choices = choices_of(trials)
    assert [entry.shape for entry in choices] == [(200, 4)] * 3  # the last step is half an episode
    for episode in range(4):
        first, second = trials[:, 2 * episode], trials[:, 2 * episode + 1]
        assert torch.equal(choices.first_action[:, episode], first[keys.ACTION])
        reached = second[keys.OBSERVATION].argmax(1)
        assert torch.equal(choices.is_common[:, episode], reached == first[keys.ACTION] + 1)
        reward = second[keys.NEXT, keys.STEP_REWARD].squeeze(1)
        assert torch.equal(choices.reward[:, episode], reward)
    assert choices.is_common.float().mean().item() == pytest.approx(0.75, abs=0.06)


@pytest.mark.parametrize(
    ("setting", "line"),
    [
        ({"common_probability": 0.4}, "common_probability=0.4: this probability lies in 0.5 to 1"),
        ({"reward_probability": 1.1}, "reward_probability=1.1: this probability lies in 0.5 to 1"),
        ({"reversal_probability": -1}, "reversal_probability=-1: this probability lies in 0 to 1"),
    ],
)
def test_an_impossible_probability_is_refused(setting: dict[str, float], line: str) -> None:
    with pytest.raises(UserError, match=f"^{line}$"):
        TwoStep(3, **setting)
