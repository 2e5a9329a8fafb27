"""Cart-poles of drawn physics, native and batched (Barto, Sutton and Anderson 1983)."""

from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical, Unbounded

from rl2_lightning import keys
from rl2_lightning.envs.physics import checked_ranges
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.oracles.cart_pole import cart_pole_oracles, has_failed, move, start_state
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.physics import draw_physics


class CartPole(TaskEnv):
    """Balance a pole on a cart whose physics is not told.

    A step is that of gymnasium's CartPole-v1. It earns 1; the episode ends where the cart leaves
    its track or the pole tips over, and is cut after `horizon` steps. The observation, float32, is
    position and angle, `[B, 2]`; or position, velocity, angle and angular velocity, `[B, 4]`.

    Args:
        num_tasks: B, the number of cart-poles played at once.
        cart_mass: range from which it is drawn, in kilograms.
        pole_length: range of half the pole's length, in metres.
        gravity: its range, in metres a second squared.
        flips: whether in half of the tasks the two actions change places.
        shows_velocities: whether they are observed, too.
        horizon: length at which an episode is cut, in env steps.
        device: where they are played.

    Raises:
        UserError: a range is not of two positive numbers in order.
    """

    ends_early = True

    def __init__(
        self,
        num_tasks: int,
        cart_mass: Sequence[float] = (1.0, 4.0),
        pole_length: Sequence[float] = (0.05, 0.5),
        gravity: Sequence[float] = (5.0, 20.0),
        flips: bool = True,
        shows_velocities: bool = False,
        horizon: int = 200,
        device: torch.device | str = "cpu",
    ) -> None:
        self.ranges = checked_ranges(
            {keys.CART_MASS: cart_mass, keys.POLE_LENGTH: pole_length, keys.GRAVITY: gravity}
        )
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((4 if shows_velocities else 2,)),
            action_spec=Categorical(2),
            max_episode_steps=horizon,
            device=device,
        )
        self.flips = flips
        self.shows_velocities = shows_velocities
        self._state = torch.zeros(num_tasks, 4, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws the physics."""
        return draw_physics(num_tasks, self.ranges, self.flips, self.generator)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Puts the pole of the rows nearly upright."""
        self._state = torch.where(rows, start_state(self.num_tasks, self.generator), self._state)
        return self._seen()

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Moves every cart."""
        # Who has failed stays there: on the idle tail of a trial it would move without bounds.
        failed = has_failed(self._state).unsqueeze(1)
        self._state = torch.where(failed, self._state, move(self._state, action, self.tasks))
        reward = torch.ones_like(self._state[:, :1])
        return self._seen(), reward, has_failed(self._state).unsqueeze(1)

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """A random player, and a regulator that knows the physics."""
        return cart_pole_oracles(self.max_episode_steps)

    def _seen(self) -> Tensor:
        return self._state if self.shows_velocities else self._state[:, ::2]
