"""Trials of episodes: the RL² inputs, counters, ends, and idle tails."""

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.envs import check_env_specs

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.bernoulli_bandit import ARM_PROBABILITIES
from rl2_lightning.families.tabular_mdp import TabularMDP
from rl2_lightning.families.trial_env import TrialEnv
from tests.corridor import Corridor
from tests.families.catalogue import NAMES, make_family
from tests.families.draws import draw_actions

LENGTHS = [{"episodes_per_trial": 3}, {"steps_per_trial": 7}]
GOALS = [1.0, 4.0]


def make_trials(kind: str, num_trials: int = 4, **options: object) -> TrialEnv:
    return TrialEnv(make_family(kind, num_trials), **options)


def corridor(goals: list[float] = GOALS, **options: object) -> tuple[TrialEnv, TensorDictBase]:
    """Trials on corridors of known lengths, and their first step."""
    env = make_trials("corridor", len(goals), **options)
    tasks = TensorDict({"goal": torch.tensor(goals).unsqueeze(1)}, [len(goals)])
    return env, env.reset(TensorDict({keys.TASK: tasks}, [len(goals)]))


def play(env: TrialEnv, state: TensorDictBase, actions: list[list[int]]) -> TensorDictBase:
    """Play the actions of each trial, and return the trials `[B, T]`."""
    return play_on(env, state, actions)[0]


def play_on(
    env: TrialEnv, state: TensorDictBase, actions: list[list[int]]
) -> tuple[TensorDictBase, TensorDictBase]:
    """Like `play`, but also return the last state."""
    return play_actions(env, state, torch.tensor(actions).T)


def play_actions(
    env: TrialEnv, state: TensorDictBase, actions: Tensor
) -> tuple[TensorDictBase, TensorDictBase]:
    """Play actions `[T, B]` or `[T, B, A]`, and return the trials and the last state."""
    steps = []
    for action in actions:
        step, state = env.step_and_maybe_reset(state.clone().set(keys.ACTION, action))
        steps.append(step)
    return torch.stack(steps, dim=1), state


def reset_first_row(env: TrialEnv, state: TensorDictBase, goal: float = 4.0) -> TensorDictBase:
    """Start a new trial in the first of the rows."""
    mask = torch.zeros(*env.batch_size, 1, dtype=torch.bool)
    mask[0] = True
    tasks = TensorDict({"goal": torch.full((*env.batch_size, 1), goal)}, env.batch_size)
    return env.reset(state.clone().set("_reset", mask).set(keys.TASK, tasks))


def numbers(entry: Tensor) -> list[list[float]]:
    return entry.squeeze(-1).float().tolist()


@pytest.fixture(autouse=True)
def never_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Like in collection, let ended trials idle until all are reset."""
    monkeypatch.setattr(TrialEnv, "maybe_reset", lambda self, tensordict: tensordict)


@pytest.mark.parametrize("kind", NAMES)
@pytest.mark.parametrize("length", LENGTHS)
@pytest.mark.parametrize("option", [{}, {"continues": True}])
def test_specs_are_exact(
    monkeypatch: pytest.MonkeyPatch, kind: str, length: dict[str, int], option: dict[str, bool]
) -> None:
    monkeypatch.undo()
    check_env_specs(make_trials(kind, **length, **option), seed=0)


@pytest.mark.parametrize("kind", NAMES)
def test_same_seed_same_trial(kind: str) -> None:
    def trials(seed: int) -> TensorDictBase:
        env = make_trials(kind, 20, episodes_per_trial=4)
        env.set_seed(seed)
        return play_actions(env, env.reset(), draw_actions(env, min(env.max_steps, 400)))[0]

    assert (trials(1) == trials(1)).all()
    assert not (trials(1) == trials(2)).all()


def test_inputs_at_the_start_of_a_trial() -> None:
    env, state = corridor(episodes_per_trial=2)
    play(env, state, [[1] * 10] * 2)
    state = env.reset()  # also after a trial was played
    assert state[keys.PREVIOUS_ACTION].tolist() == [2, 2], "the number of actions: none"
    assert state[keys.PREVIOUS_ACTION].dtype == torch.int64
    assert not state[keys.PREVIOUS_OBSERVATION].any()
    assert not state[keys.PREVIOUS_REWARD].any()
    assert (state[keys.PREVIOUS_DONE] == 1).all()
    assert state[keys.IS_INIT].all()
    assert state[keys.MASK].all()
    assert not state[keys.EPISODE].any()
    assert not state[keys.ELAPSED].any()
    assert not state[keys.OBSERVATION].any()


def test_inputs_are_carried_across_episodes() -> None:
    env, state = corridor([2.0], episodes_per_trial=3)
    trial = play(env, state, [[1, 1, 0, 1, 1]])
    # The reward of the goal, at the second step, is seen at the start of the next episode.
    assert numbers(trial[keys.OBSERVATION]) == [[0, 1, 0, 0, 1]]
    assert numbers(trial[keys.PREVIOUS_REWARD]) == [[0, 0, 1, 0, 0]]
    assert numbers(trial[keys.PREVIOUS_DONE]) == [[1, 0, 1, 0, 0]]
    assert trial[keys.PREVIOUS_ACTION].tolist() == [[2, 1, 1, 0, 1]]
    assert numbers(trial[keys.IS_INIT]) == [[1, 0, 0, 0, 0]]
    assert numbers(trial[keys.EPISODE]) == [[0, 0, 1, 1, 1]]


def test_the_previous_observation_is_where_the_previous_action_was_taken() -> None:
    env, state = corridor([2.0, 4.0], episodes_per_trial=2)
    trials = play(env, state, [[1, 1, 0, 1]] * 2)
    assert numbers(trials[keys.OBSERVATION]) == [[0, 1, 0, 0], [0, 1, 2, 2]]
    # Never the goal, in which no action is taken.
    assert numbers(trials[keys.PREVIOUS_OBSERVATION]) == [[0, 0, 1, 0], [0, 0, 1, 2]]
    started = reset_first_row(env, trials[:, -1].exclude(keys.NEXT), goal=3.0)
    assert numbers(started[keys.PREVIOUS_OBSERVATION])[0] == 0
    assert not env.reset()[keys.PREVIOUS_OBSERVATION].any()


def test_the_position_at_the_end_of_an_episode_is_the_one_reached() -> None:
    env, state = corridor(episodes_per_trial=2, shows_position=True)
    trials = play(env, state, [[1] * 2] * 2)
    assert trials[keys.REACHED][0, :, 0].tolist() == [1, 1]
    assert trials[keys.POSITION][0, :, 0].tolist() == [0, 1]
    assert not trials[keys.REACHED][..., 1].any()


def test_continuous_actions_are_seen_as_they_are() -> None:
    env = make_trials("point_robot", 3, episodes_per_trial=2)
    actions = draw_actions(env, 4)
    trials, _ = play_actions(env, env.reset(), actions)
    assert trials[keys.PREVIOUS_ACTION].shape == (3, 4, 2)
    assert not trials[keys.PREVIOUS_ACTION][:, 0].any()
    assert torch.equal(trials[keys.PREVIOUS_ACTION][:, 1:], actions[:-1].transpose(0, 1))


def test_trials_of_different_lengths() -> None:
    # Goals at 1 and 4: episodes of 1 and 4 steps when walking straight to them.
    env, state = corridor(episodes_per_trial=2)
    assert (env.max_steps, env.max_episodes) == (10, 2)
    trials = play(env, state, [[1] * 10] * 2)
    assert numbers(trials[keys.MASK]) == [[1] * 2 + [0] * 8, [1] * 8 + [0] * 2]
    assert numbers(trials[keys.EPISODE])[1][:8] == [0] * 4 + [1] * 4
    assert numbers(trials[keys.EPISODE_DONE]) == [[1, 1] + [0] * 8, [0, 0, 0, 1] * 2 + [0] * 2]
    assert numbers(trials[keys.DONE]) == [[0] + [1] * 9, [0] * 7 + [1] * 3]
    assert numbers(trials[keys.TERMINATED]) == numbers(trials[keys.DONE])
    # For two episodes of at most five steps.
    elapsed = numbers(trials[keys.ELAPSED])
    assert elapsed[0][:2] == pytest.approx([0, 0.5])
    assert elapsed[1][:8] == pytest.approx([0, 0.1, 0.2, 0.3, 0.5, 0.6, 0.7, 0.8])
    assert trials[(keys.NEXT, keys.ELAPSED)][1, 7:].flatten().tolist() == [1, 1, 1]


def test_idle_rows_give_no_reward() -> None:
    env, state = corridor(episodes_per_trial=1)
    trials = play(env, state, [[1] * 5] * 2)
    assert numbers(trials[keys.REWARD]) == [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
    assert not trials[keys.REWARD][~trials[keys.MASK]].any()


def test_an_episode_is_cut_at_its_time_limit() -> None:
    env, state = corridor([4.0], episodes_per_trial=2)
    trial = play(env, state, [[0] * 10])
    assert numbers(trial[keys.EPISODE_DONE]) == [[0, 0, 0, 0, 1] * 2]
    assert numbers(trial[keys.MASK]) == [[1] * 10]
    assert numbers(trial[keys.DONE]) == [[0] * 9 + [1]]


@pytest.mark.parametrize(("steps", "most"), [(9, 1), (10, 1), (11, 2), (30, 3)])
def test_episodes_of_one_length_tell_how_many_a_trial_holds(steps: int, most: int) -> None:
    env = TrialEnv(TabularMDP(2, horizon=10), steps_per_trial=steps)
    assert (env.max_steps, env.max_episodes) == (steps, most)


def test_trials_of_so_many_steps() -> None:
    env, state = corridor(steps_per_trial=7)
    assert (env.max_steps, env.max_episodes) == (7, 7)
    trials = play(env, state, [[1] * 7] * 2)
    assert trials[keys.MASK].all(), "all trials are of the same length"
    assert numbers(trials[keys.EPISODE]) == [[0, 1, 2, 3, 4, 5, 6], [0, 0, 0, 0, 1, 1, 1]]
    assert numbers(trials[keys.DONE]) == [[0] * 6 + [1]] * 2
    assert numbers(trials[keys.ELAPSED])[0] == pytest.approx([step / 7 for step in range(7)])
    assert numbers(trials[keys.REWARD]) == [[1] * 7, [0, 0, 0, 1, 0, 0, 0]]


@pytest.mark.parametrize("continues", [False, True])
def test_a_cut_of_a_longer_life_does_not_terminate(continues: bool) -> None:
    env, state = corridor(steps_per_trial=4, continues=continues)
    trials = play(env, state, [[1] * 4] * 2)
    assert numbers(trials[keys.DONE]) == [[0, 0, 0, 1]] * 2
    assert trials[keys.TERMINATED].any().item() is not continues
    assert trials[keys.ELAPSED].any().item() is not continues, "a longer life has no known end"
    # If life continues, the value beyond the cut is that of a new episode of the same task.
    after = trials[keys.NEXT][:, -1]
    assert after[keys.OBSERVATION].flatten().tolist() == ([0, 0] if continues else [1, 4])
    assert after[keys.EPISODE].flatten().tolist() == ([4, 1] if continues else [3, 0])


def test_tasks_that_are_given_are_played_for_the_whole_trial() -> None:
    env = make_trials("bernoulli_bandit", 3, episodes_per_trial=6)
    tasks = TensorDict({ARM_PROBABILITIES: torch.eye(5)[:3]}, [3])
    state = env.reset(TensorDict({keys.TASK: tasks}, [3]))
    trials = play(env, state, [[0] * 6, [1] * 6, [1] * 6])
    assert numbers(trials[keys.REWARD]) == [[1] * 6, [1] * 6, [0] * 6]


def test_each_trial_has_a_task_of_its_own() -> None:
    env = make_trials("bernoulli_bandit", 4, episodes_per_trial=3)
    env.reset()
    before = env.task_env.tasks.clone()
    env.reset()
    assert not (env.task_env.tasks == before).any()


def test_reset_keeps_the_trials_of_the_other_rows() -> None:
    env, state = corridor([4.0, 4.0], episodes_per_trial=2)
    _, state = play_on(env, state, [[1] * 5] * 2)
    state = reset_first_row(env, state, goal=3.0)
    assert env.task_env.tasks["goal"].flatten().tolist() == [3, 4]
    assert state[keys.OBSERVATION].flatten().tolist() == [0, 1]
    assert state[keys.EPISODE].flatten().tolist() == [0, 1]
    assert state[keys.IS_INIT].flatten().tolist() == [True, False]
    assert state[keys.PREVIOUS_DONE].flatten().tolist() == [1, 0]
    assert state[keys.ELAPSED].flatten().tolist() == pytest.approx([0, 0.6])
    trials = play(env, state, [[1] * 6] * 2)
    # The first plays two whole episodes of three steps, the second the last three steps of four.
    assert numbers(trials[keys.MASK]) == [[1] * 6, [1] * 3 + [0] * 3]
    assert numbers(trials[keys.REWARD]) == [[0, 0, 1] * 2, [0, 0, 1, 0, 0, 0]]


def test_reset_keeps_an_idle_row_idle() -> None:
    env, state = corridor([4.0, 1.0], episodes_per_trial=1)
    _, state = play_on(env, state, [[1]] * 2)
    state = reset_first_row(env, state)
    assert numbers(state[keys.MASK]) == [1, 0]
    trials = play(env, state, [[1] * 4] * 2)
    assert numbers(trials[keys.REWARD]) == [[0, 0, 0, 1], [0] * 4]
    assert numbers(trials[keys.MASK]) == [[1] * 4, [0] * 4]


def test_steps_are_counted_for_each_row() -> None:
    env, state = corridor([4.0, 4.0], steps_per_trial=4)
    _, state = play_on(env, state, [[0] * 2] * 2)
    state = reset_first_row(env, state)
    assert state[keys.ELAPSED].flatten().tolist() == [0, 0.5]
    assert numbers(play(env, state, [[0] * 4] * 2)[keys.MASK]) == [[1] * 4, [1, 1, 0, 0]]


@pytest.mark.parametrize(
    ("lengths", "told"),
    [
        ({}, "episodes_per_trial=None and steps_per_trial=None"),
        ({"episodes_per_trial": 3, "steps_per_trial": 4}, "episodes_per_trial=3 and steps_per"),
        ({"episodes_per_trial": 0}, "a trial of length 0"),
        ({"steps_per_trial": -1}, "a trial of length -1"),
    ],
)
def test_length_that_makes_no_sense(lengths: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        make_trials("corridor", **lengths)


def test_wrong_number_of_tasks_is_refused() -> None:
    env = make_trials("corridor", 4, episodes_per_trial=2)
    tasks = TensorDict({"goal": torch.ones(3, 1)}, [3])
    with pytest.raises(UserError, match="plays 4 tasks at once"):
        env.task_env.set_tasks(tasks, torch.ones(4, 1, dtype=torch.bool))


def test_agents_may_learn_from_expected_rewards_but_see_drawn_ones() -> None:
    drawn, expected = (
        make_trials("bernoulli_bandit", 200, episodes_per_trial=3, expected_rewards=expected)
        for expected in (False, True)
    )
    actions = torch.randint(5, (200, 3), generator=torch.Generator().manual_seed(1))
    played = []
    for env in (drawn, expected):
        env.set_seed(4)
        played.append(play_on(env, env.reset(), actions.tolist()))
    (plain, plain_end), (smooth, smooth_end) = played
    pays = drawn.task_env.tasks[ARM_PROBABILITIES].gather(1, actions).unsqueeze(-1)
    torch.testing.assert_close(smooth[keys.REWARD], pays)
    assert set(plain[keys.REWARD].unique().tolist()) == {0.0, 1.0}
    assert torch.equal(smooth[keys.PREVIOUS_REWARD], plain[keys.PREVIOUS_REWARD])
    assert torch.equal(smooth_end[keys.PREVIOUS_REWARD], plain_end[keys.PREVIOUS_REWARD])


def test_no_reward_is_expected_on_idle_steps() -> None:
    class CertainCorridor(Corridor):
        def expected_reward(self, action: Tensor) -> Tensor:
            return torch.ones(self.num_tasks, 1)

    env = TrialEnv(CertainCorridor(2), episodes_per_trial=1, expected_rewards=True)
    tasks = TensorDict({"goal": torch.tensor([[1.0], [3.0]])}, [2])
    trials = play(env, env.reset(TensorDict({keys.TASK: tasks}, [2])), [[1, 1, 1]] * 2)
    assert numbers(trials[keys.REWARD]) == [[1, 0, 0], [1, 1, 1]]


def test_where_no_mean_is_told_agents_learn_from_the_reward() -> None:
    env, state = corridor(episodes_per_trial=1, expected_rewards=True)
    trials = play(env, state, [[1] * 5] * 2)
    assert numbers(trials[keys.REWARD]) == [[1, 0, 0, 0, 0], [0, 0, 0, 1, 0]]
