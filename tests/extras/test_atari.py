"""Modes and difficulties are tasks; frames are those of Gymnasium's preprocessing."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from torch import Tensor
from torchrl.envs import check_env_specs

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv
from tests.extras.by_hand import require_same
from tests.extras.packages import needs
from tests.families.gymnasium.played import tasks_of

pytestmark = needs("atari")

ID = "rl2_lightning.families.atari.games:make_game"
TASKS = [{"mode": 0, "difficulty": 0}, {"mode": 1, "difficulty": 1}, {"mode": 6, "difficulty": 0}]


def game(mode: int, difficulty: int, **settings: Any) -> gymnasium.Env:
    from rl2_lightning.families.atari.games import make_game

    return make_game("Freeway", mode, difficulty, **settings)


def tasks(backend: str = "batched", **kwargs: Any) -> GymnasiumTasks:
    lists = {"training_tasks": TASKS, "held_out_tasks": TASKS}
    given = {"game": "Freeway", **kwargs}
    return tasks_of(ID, backend, task_by="constructor", kwargs=given, horizon=8, **lists)


def see(shown: Tensor, row: int, expected: np.ndarray) -> None:
    frames = expected if expected.ndim == 3 else expected[None]
    assert np.array_equal(shown[row].numpy(), frames)


@pytest.mark.parametrize("backend", ["batched", "vector", "process"])
@pytest.mark.parametrize("frame_stack", [1, 3])
def test_trials_are_those_of_the_game_by_itself(frame_stack: int, backend: str) -> None:
    played = tasks(backend, frame_stack=frame_stack)
    require_same(played, lambda task: game(**task, frame_stack=frame_stack), see)


def test_a_mode_is_played_in_each_episode() -> None:
    import ale_py
    from gymnasium.wrappers import AtariPreprocessing

    gymnasium.register_envs(ale_py)

    def frames(env: gymnasium.Env) -> np.ndarray:
        found = []
        for seed in (3, None):
            env.reset(seed=seed)
            found += [env.step(0)[0] for _ in range(10)]
        return np.stack(found)

    seen = []
    for task in TASKS:
        own = gymnasium.make("ALE/Freeway-v5", frameskip=1, **task)
        seen.append(frames(game(**task)))
        assert np.array_equal(seen[-1], frames(AtariPreprocessing(own)))
    assert not any(np.array_equal(seen[0][part], seen[2][part]) for part in (9, 19))


def test_stacked_frames_end_with_the_last_one() -> None:
    stacked, single = game(0, 0, frame_stack=4), game(0, 0)
    assert stacked.reset(seed=1)[0].shape == (4, 84, 84)
    single.reset(seed=1)
    for _ in range(5):
        found, expected = stacked.step(1)[0], single.step(1)[0]
        assert np.array_equal(found[-1], expected)
    assert not np.array_equal(found[0], found[-1])


def test_a_mode_that_the_game_lacks() -> None:
    lists = {"training_tasks": [{"mode": 99}], "held_out_tasks": [{"mode": 0}]}
    given = {"game": "Freeway"}
    with pytest.raises(UserError, match=r":make_game cannot be made with game, mode:") as caught:
        tasks_of(ID, task_by="constructor", kwargs=given, horizon=8, **lists)
    assert "\n" not in str(caught.value)


def test_specs() -> None:
    env = game(0, 0)
    check_env(env, skip_render_check=True)
    played = tasks()
    check_env_specs(TrialEnv(played, episodes_per_trial=2), seed=0)
    played.close()
