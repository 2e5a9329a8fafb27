"""Random tabular MDPs (arXiv 1611.02779, section 3.2)."""

from collections.abc import Mapping

import torch
from tensordict import TensorDict
from torch import Tensor
from torchrl.data import Categorical, OneHot

from rl2_lightning import keys
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.errors import UserError
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.tabular import tabular_mdp_oracles
from rl2_lightning.oracles.tabular_mdp import play_step, sample_mdps


class TabularMDP(TaskEnv):
    """MDPs with a few states, whose rewards and transitions are drawn at random.

    Mean rewards are drawn from Normal(1, 1) for each state and action, transition probabilities
    from the flat Dirichlet distribution. A reward is normal around its mean, with variance 1. An
    episode starts in state 0 and is cut after `horizon` steps; the MDP itself never ends it.

    The observation, `[B, S]`, float32, is the state, one-hot.

    Args:
        num_tasks: B, the number of MDPs played at once.
        num_states: S; with 1 it is a bandit with normal rewards.
        num_actions: A.
        horizon: H, the length of an episode, in env steps.
        device: where they are played.

    Raises:
        UserError: there is no state, there are fewer than two actions, or an episode has no step.
    """

    def __init__(
        self,
        num_tasks: int,
        num_states: int = 10,
        num_actions: int = 5,
        horizon: int = 10,
        device: torch.device | str = "cpu",
    ) -> None:
        if num_states < 1:
            raise UserError(f"num_states={num_states}: an MDP needs at least 1 state")
        if num_actions < 2:
            raise UserError(f"num_actions={num_actions}: an MDP needs at least 2 actions")
        super().__init__(
            num_tasks,
            observation_spec=OneHot(num_states, dtype=torch.float32),
            action_spec=Categorical(num_actions),
            max_episode_steps=horizon,
            device=device,
        )
        self.num_states = num_states
        self.num_actions = num_actions
        self._one_hot = torch.eye(num_states, device=self.device)
        self._state = torch.zeros(num_tasks, dtype=torch.int64, device=self.device)
        self._never = torch.zeros(num_tasks, 1, dtype=torch.bool, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draws mean rewards, `[num_tasks, S, A]`, and transitions, `[num_tasks, S, A, S]`."""
        return sample_mdps(num_tasks, self.num_states, self.num_actions, self.generator)

    def begin_episodes(self, rows: Tensor) -> Tensor:
        """Puts the rows into state 0."""
        self._state = torch.where(rows.squeeze(1), 0, self._state)
        return self._one_hot[self._state]

    def advance(self, action: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Plays one step of every MDP."""
        reward, self._state = play_step(self.tasks, self._state, action, self.generator)
        return self._one_hot[self._state], reward.unsqueeze(1), self._never

    def expected_reward(self, action: Tensor) -> Tensor:
        """The mean reward of the state and the action."""
        rows = torch.arange(self.num_tasks, device=self.device)
        return self.tasks[keys.MEAN_REWARDS][rows, self._state, action].unsqueeze(1)

    def oracles(self, num_episodes: int) -> Mapping[str, Oracle]:
        """The published players of tabular MDPs, and the optimum for a known one."""
        return tabular_mdp_oracles(
            self.num_states, self.num_actions, self.max_episode_steps, num_episodes
        )
