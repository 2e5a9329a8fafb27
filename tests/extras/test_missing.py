"""An extra that is not installed is named in one line."""

import sys

import pytest

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium import GymnasiumTasks
from tests.extras.packages import PACKAGES

IDS = {
    "atari": "rl2_lightning.families.atari.games:make_game",
    "metaworld": "rl2_lightning.families.metaworld.arm:Arm",
    "minigrid": "rl2_lightning.families.minigrid.layouts:Layouts",
    "mujoco": "rl2_lightning.families.mujoco.half_cheetah:HalfCheetahDir",
}


@pytest.mark.parametrize("extra", PACKAGES)
def test_a_missing_extra_is_named(extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*sys.modules]:
        if name.startswith((f"rl2_lightning.families.{extra}", "gymnasium.envs.mujoco")):
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, PACKAGES[extra], None)
    told = rf"^env\.id={IDS[extra]} .*not installed, run `pip install rl2-lightning\[{extra}\]`;"
    with pytest.raises(UserError, match=told) as caught:
        GymnasiumTasks(2, id=IDS[extra], tasks=[0.0, 1.0], task_by="method", horizon=4)
    assert "\n" not in str(caught.value)
