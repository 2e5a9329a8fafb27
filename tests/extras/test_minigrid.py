"""Layouts are tasks: drawn by their seed, and the same in each episode of a trial."""

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
from tests.families.draws import draw_actions
from tests.families.gymnasium.played import play, tasks_of

pytestmark = needs("minigrid")

LAYOUT = "MiniGrid-MultiRoom-N2-S4-v0"
ID = "rl2_lightning.families.minigrid.layouts:Layouts"
VIEWS = ("symbolic", "pixels")


def grid(view: str, **settings: Any) -> gymnasium.Env:
    from rl2_lightning.families.minigrid.layouts import Layouts

    return Layouts(LAYOUT, view, **settings)


def tasks(view: str, backend: str = "batched", **settings: Any) -> GymnasiumTasks:
    return tasks_of(ID, backend, horizon=15, kwargs={"layout": LAYOUT, "view": view, **settings})


def see(shown: dict[str, Tensor], row: int, expected: dict[str, Any]) -> None:
    cells = expected["cells"]
    cells = np.moveaxis(cells, -1, 0) if cells.ndim == 3 else cells
    assert shown["cells"][row].tolist() == cells.tolist()
    assert shown["direction"][row].argmax() == expected["direction"]


class Reseeded(gymnasium.Wrapper):
    """Begins each episode with the same seed."""

    def __init__(self, env: gymnasium.Env, seed: int) -> None:
        super().__init__(env)
        self.task = seed

    def reset(self, **_: Any):
        return self.env.reset(seed=self.task)


@pytest.mark.parametrize("backend", ["batched", "vector", "process"])
@pytest.mark.parametrize("view", VIEWS)
def test_trials_are_those_of_the_grid_by_itself(view: str, backend: str) -> None:
    require_same(tasks(view, backend), lambda task: Reseeded(grid(view), task), see)


@pytest.mark.parametrize("view", VIEWS)
def test_what_is_seen_is_what_the_grid_has(view: str) -> None:
    from minigrid.core.constants import COLOR_TO_IDX, OBJECT_TO_IDX

    env = grid(view)
    shown, _ = env.reset(seed=3)
    raw = gymnasium.make(LAYOUT)
    seen = raw.reset(seed=3)[0]
    assert shown["direction"] == seen["direction"]
    if view == "pixels":
        assert (shown["cells"] == raw.unwrapped.get_frame(tile_size=8, agent_pov=True)).all()
        return
    cells = shown["cells"].reshape(7, 7, -1)
    kinds, colours = len(OBJECT_TO_IDX), len(COLOR_TO_IDX)
    assert (cells[..., :kinds].argmax(-1) == seen["image"][..., 0]).all()
    assert (cells[..., kinds : kinds + colours].argmax(-1) == seen["image"][..., 1]).all()
    assert (cells[..., kinds + colours :].argmax(-1) == seen["image"][..., 2]).all()
    assert (cells.sum(-1) == 3).all()


def test_a_trial_has_one_layout_and_tasks_have_others() -> None:
    env = TrialEnv(tasks("symbolic"), episodes_per_trial=3)
    env.set_seed(0)
    found = play(env, draw_actions(env, env.max_steps))
    starts = [found["shown"][t]["cells"] for t in (0, 15, 30)]
    assert (starts[0] == starts[1]).all()
    assert (starts[0] == starts[2]).all()
    assert len(np.unique(starts[0].numpy(), axis=0)) > 1
    env.close()


def test_the_grid_has_the_settings() -> None:
    env = grid("symbolic", agent_view_size=3, max_steps=5)
    assert env.reset(seed=0)[0]["cells"].shape == (3 * 3 * 20,)
    ends = [env.step(0)[2:4] for _ in range(5)]
    assert ends == [(False, False)] * 4 + [(False, True)]
    with pytest.raises(
        UserError, match=r"view=words of MiniGrid-.*: choose one of symbolic, pixels"
    ):
        grid("words")


@pytest.mark.parametrize("view", VIEWS)
def test_specs(view: str, monkeypatch: pytest.MonkeyPatch) -> None:
    env = grid(view)
    # Gymnasium would make the grid anew from its name, without the view.
    monkeypatch.setattr(type(env), "spec", None)
    check_env(env, skip_render_check=True)
    env = tasks(view)
    check_env_specs(TrialEnv(env, episodes_per_trial=2), seed=0)
    env.close()
