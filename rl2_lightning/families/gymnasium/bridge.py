"""What a Gymnasium environment shows and takes, in the terms of an agent that was trained on it."""

from collections.abc import Sequence
from typing import Any

import gymnasium
import numpy as np
from torch import Tensor

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.actions import ActionLayout
from rl2_lightning.families.gymnasium.observations import (
    Array,
    InvalidObservation,
    ObservationLayout,
)


class Bridge:
    """Lets an agent play environments outside of a training, as they were played in it.

    ```python
    session, bridge = agent.session(1), Bridge(env)
    observation, _ = env.reset()
    while True:
        (action,) = bridge.actions(session.act(bridge.observations([observation])))
        observation, reward, terminated, truncated, _ = env.step(action)
        done = terminated or truncated
        session.observe([reward], [done])
        if done:
            observation, _ = env.reset()
    ```

    Args:
        env: an environment; all that are played have its spaces.
        action_bound: `env.action_bound` of the training.

    Raises:
        UserError: no agent can play it.
    """

    def __init__(self, env: gymnasium.Env[Any, Any], action_bound: float | None = None) -> None:
        self._name = "the environment" if env.spec is None else env.spec.id
        self._observations = ObservationLayout(env.observation_space, self._name)
        self._actions = ActionLayout(env.action_space, self._name, action_bound)

    def observations(self, observations: Sequence[Any]) -> Array | dict[str, Array]:
        """What an agent sees of the observations of B environments.

        Returns:
            An array `[B, ...]`, or several by name.

        Raises:
            UserError: one is outside of its space.
        """
        num = len(observations)
        arrays = self._observations.allocate(num, np.zeros)
        try:
            self._observations.write_all(arrays, np.arange(num), observations)
            self._observations.require_within(arrays, np.ones(num, bool))
        except InvalidObservation as error:
            raise UserError(
                f"{self._name} returned observation {error.row}, which cannot be shown: {error}; "
                "check its observation_space"
            ) from error
        shown = self._observations.shown(arrays)
        return shown.get("", shown)

    def actions(self, actions: Tensor) -> list[Any]:
        """The environments' actions for those of an agent, `[B]` or `[B, A]`."""
        return list(self._actions.decoded(actions.cpu().numpy()))
