"""The families that the common tests go through, and one whose episodes end early."""

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Unbounded
from torchrl.envs import EnvBase

from rl2_lightning.envs.bernoulli_bandit import BernoulliBandit
from rl2_lightning.envs.cart_pole import CartPole
from rl2_lightning.envs.dependent_bandit import DependentBandit
from rl2_lightning.envs.gaussian_bandit import GaussianBandit
from rl2_lightning.envs.grid_navi import GridNavi
from rl2_lightning.envs.informative_bandit import InformativeBandit
from rl2_lightning.envs.pendulum import Pendulum
from rl2_lightning.envs.point_robot import PointRobot
from rl2_lightning.envs.restless_bandit import RestlessBandit
from rl2_lightning.envs.scene import Scene
from rl2_lightning.envs.tabular_mdp import TabularMDP
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.envs.two_step import TwoStep
from rl2_lightning.envs.visual_maze import VisualMaze


class Corridor(TaskEnv):
    """Walk right (action 1) to a goal at distance 1 to 4; the observation is the position.

    Its trials have different lengths.
    """

    ends_early = True

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu") -> None:
        super().__init__(
            num_tasks,
            observation_spec=Unbounded((1,)),
            action_spec=Categorical(2),
            max_episode_steps=5,
            device=device,
        )
        self.place = torch.zeros(num_tasks, 1, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        goal = torch.randint(1, 5, (num_tasks, 1), generator=self.generator, device=self.device)
        return TensorDict({"goal": goal.float()}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        self.place = torch.where(rows, 0.0, self.place)
        return self.place

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        self.place = self.place + action.unsqueeze(1)
        arrived = self.place >= self.tasks["goal"]
        return self.place, arrived.float(), arrived

    def scene(self, task: TensorDictBase) -> Scene:
        return Scene((0, -1), (5, 1), start=(0, 0), goal=(task["goal"].item(), 0), goal_radius=0.5)

    @property
    def position(self) -> Tensor:
        return torch.cat((self.place, torch.zeros_like(self.place)), dim=1)


FAMILIES = {
    "bandit": BernoulliBandit,
    "dependent bandit": DependentBandit,
    "gaussian bandit": GaussianBandit,
    "grid": GridNavi,
    "restless bandit": RestlessBandit,
    "informative bandit": InformativeBandit,
    "mdp": TabularMDP,
    "point": PointRobot,
    "cart-pole": CartPole,
    "pendulum": Pendulum,
    "two-step task": TwoStep,
    "maze": VisualMaze,
    "corridor": Corridor,
}


def draw_actions(env: EnvBase, num_steps: int, seed: int = 0) -> Tensor:
    """Uniformly random actions of any family, `[num_steps, B]` or `[num_steps, B, A]`."""
    generator = torch.Generator().manual_seed(seed)
    spec, shape = env.action_spec_unbatched, (num_steps, *env.batch_size)
    if isinstance(spec, Categorical):
        return torch.randint(spec.space.n, shape, generator=generator)
    draw = torch.rand(*shape, *spec.shape, generator=generator)
    return spec.space.low + draw * (spec.space.high - spec.space.low)
