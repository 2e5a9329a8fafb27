"""Make an Atari game in one of its modes and difficulties."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import gymnasium
from gymnasium.error import DependencyNotInstalled
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation

if find_spec("ale_py") is None or find_spec("cv2") is None:
    raise DependencyNotInstalled("Atari is not installed, run `pip install rl2-lightning[atari]`")

import ale_py

gymnasium.register_envs(ale_py)

NO_LIMIT = -1  # Gymnasium's value


def make_game(
    game: str, mode: int = 0, difficulty: int = 0, frame_stack: int = 1, **preprocessing: Any
) -> gymnasium.Env[Any, Any]:
    """A game with Gymnasium's `AtariPreprocessing`, and with actions that stick.

    Args:
        game: its name, such as "Freeway".
        mode: the mode of the console's switch.
        difficulty: the position of the console's difficulty switch.
        frame_stack: number of the last frames that an observation has.
        **preprocessing: arguments of `AtariPreprocessing`.
    """
    env: gymnasium.Env[Any, Any] = gymnasium.make(
        f"ALE/{game}-v5",
        mode=mode,
        difficulty=difficulty,
        frameskip=1,  # the preprocessing skips
        max_episode_steps=NO_LIMIT,
        disable_env_checker=True,
    )
    env = AtariPreprocessing(env, **preprocessing)
    return env if frame_stack == 1 else FrameStackObservation(env, frame_stack)
