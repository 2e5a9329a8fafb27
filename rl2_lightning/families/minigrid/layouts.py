"""Grids whose layout is drawn for each task, as symbols or as pixels."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.error import DependencyNotInstalled

from rl2_lightning.errors import UserError

if find_spec("minigrid") is None:
    raise DependencyNotInstalled(
        "MiniGrid is not installed, run `pip install rl2-lightning[minigrid]`"
    )

import minigrid  # noqa: F401  which registers its environments
from minigrid.wrappers import OneHotPartialObsWrapper, RGBImgPartialObsWrapper

VIEWS: dict[str, Any] = {"symbolic": OneHotPartialObsWrapper, "pixels": RGBImgPartialObsWrapper}
NO_LIMIT = -1  # Gymnasium's value; the grids have one of their own, `max_steps`


class Layouts(gymnasium.ObservationWrapper[Any, Any, Any]):
    """A grid of MiniGrid's whose layout follows from the seed of an episode.

    An agent sees the cells in front of it and the direction in which it looks; it does not see the
    mission, which is a text.

    Args:
        layout: name of a registered grid.
        view: "symbolic", for the kind, colour and state of each cell, one-hot, `[cells]`; or
            "pixels", for a picture of them, with 8 pixels for each cell in height and in width.
        **settings: arguments of the grid, such as `agent_view_size` and `max_steps`.

    Raises:
        UserError: there is no such view.
    """

    def __init__(
        self,
        layout: str = "MiniGrid-FourRooms-v0",
        view: str = "symbolic",
        **settings: Any,
    ) -> None:
        if view not in VIEWS:
            raise UserError(f"view={view} of {layout}: choose one of {', '.join(VIEWS)}")
        grid = gymnasium.make(
            layout, max_episode_steps=NO_LIMIT, disable_env_checker=True, **settings
        )
        super().__init__(VIEWS[view](grid))
        self._is_symbolic = view == "symbolic"
        seen = self.env.observation_space
        assert isinstance(seen, spaces.Dict)
        image = seen["image"]
        if self._is_symbolic:
            image = spaces.Box(0, 1, (int(np.prod(image.shape or ())),), np.float32)
        self.observation_space = spaces.Dict({"cells": image, "direction": seen["direction"]})

    def observation(self, observation: Any) -> dict[str, Any]:
        """What an agent sees: `cells` and `direction`."""
        cells = observation["image"]
        if self._is_symbolic:
            cells = cells.flatten().astype(np.float32)
        return {"cells": cells, "direction": observation["direction"]}
