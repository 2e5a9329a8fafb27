"""Visual mazes: what is trained on, where episodes start and end."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.envs.trial_env import TrialEnv
from rl2_lightning.envs.visual_maze import VisualMaze
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.visual_maze import FORWARD, TURN_LEFT, ShortestPath


def identities(tasks: TensorDict) -> set[tuple[float, ...]]:
    entries = [tasks[key].flatten(1).float() for key in (keys.WALLS, keys.GOAL, keys.START)]
    return {tuple(row) for row in torch.cat(entries, dim=1).tolist()}


def test_training_knows_some_mazes_and_the_test_none_of_them() -> None:
    env = VisualMaze(64, size=3, num_training_mazes=10)
    env.set_seed(1)
    trained = set()
    for _ in range(5):
        env.reset()
        trained |= identities(env.tasks)
    assert len(trained) == 10
    again = VisualMaze(64, size=3, num_training_mazes=10)
    again.set_seed(2)
    again.reset()
    assert identities(again.tasks) <= trained, "whatever the seed"
    assert len(identities(env.sample_tasks(64)) & trained) < 5
    trials = TrialEnv(VisualMaze(64, size=3, num_training_mazes=10), episodes_per_trial=2)
    trials.reset()
    assert identities(trials.task_env.tasks) <= trained


def test_without_a_number_mazes_are_always_new() -> None:
    env = VisualMaze(64, size=4)
    env.reset()
    first = identities(env.tasks)
    env.reset()
    assert not first & identities(env.tasks)


def test_an_episode_ends_at_the_goal_and_the_next_one_starts_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # As collection plays: a trial that has ended idles until all are reset.
    monkeypatch.setattr(TrialEnv, "maybe_reset", lambda self, tensordict: tensordict)
    trials = TrialEnv(VisualMaze(16, size=3, horizon=80), episodes_per_trial=2)
    trials.set_seed(0)
    state = trials.reset()
    mazes = trials.task_env
    player = ShortestPath(80)
    plan = player.plan(mazes.tasks)
    _, length = player.play_episode(mazes.tasks, plan, torch.Generator())
    first_frames = state[keys.OBSERVATION].clone()
    for step in range(1, int(length.max()) + 1):
        action = player.act(mazes._pose, plan, torch.Generator())
        played, state = trials.step_and_maybe_reset(state.set(keys.ACTION, action))
        ended = (played[keys.EPISODE_DONE] & (played[keys.EPISODE] == 0)).squeeze(1)
        assert torch.equal(ended, length == step)
        assert torch.equal(state[keys.OBSERVATION][ended], first_frames[ended])
    assert (state[keys.EPISODE] == 1).all()


def test_frames_follow_the_pose() -> None:
    env = VisualMaze(8, size=3)
    env.set_seed(0)
    before = env.reset()[keys.OBSERVATION]
    turned = before
    for _ in range(16):
        action = torch.full((8,), TURN_LEFT)
        after = env.step(TensorDict({keys.ACTION: action}, [8]))[keys.NEXT]
        assert not torch.equal(after[keys.OBSERVATION], turned)
        turned = after[keys.OBSERVATION]
    assert torch.equal(turned, before), "a whole turn"
    forward = torch.full((8,), FORWARD)
    after = env.step(TensorDict({keys.ACTION: forward}, [8]))[keys.NEXT]
    assert (after[keys.OBSERVATION] != before).any()


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"size": 0}, "^size=0: a maze needs at least 2 cells a side$"),
        ({"size": 1}, "^size=1: "),
        ({"horizon": 0}, "^horizon=0: an episode needs at least 1 step$"),
        ({"num_training_mazes": 0}, "^num_training_mazes=0: give at least 1, or null"),
    ],
)
def test_mazes_that_make_no_sense(field: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        VisualMaze(3, **field)
