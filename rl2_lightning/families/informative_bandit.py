"""Eleven arms, one of which reveals where the reward is (arXiv 1611.05763, section 3.1).

One of the first ten arms is the target and pays 5, the other nine pay 1. The last arm pays a tenth
of the target's number, 1 to 10: no more than any other, but it reveals the target.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning.families.bandits.env import BanditEnv
from rl2_lightning.families.player import Player
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.inputs import Inputs, Observation

TARGET_ARM = "target_arm"  # [B, 10], float32, one-hot

NUM_TARGETS = 10
NUM_ARMS = NUM_TARGETS + 1
INFORMATIVE_ARM = NUM_TARGETS
TARGET_REWARD = 5.0
OTHER_REWARD = 1.0
RESOLUTION = 0.05  # half of the smallest difference between two rewards of an arm


class InformativeBandit(BanditEnv):
    """Ten arms, of which the target pays 5 and the others 1, and one that reveals the target.

    The eleventh arm, 10, pays a tenth of the target's number, 1 to 10. Only the target is random.
    An episode is one pull. The observation, `[B, 1]`, is the constant 1.

    Args:
        num_tasks: B, the number of bandits played at once.
        device: where they are played.
        **settings: there are none.
    """

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu", **settings: Any) -> None:
        self.read_settings(self.Settings, settings)
        super().__init__(num_tasks, NUM_ARMS, device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        """Draw the targets uniformly, one-hot, `[num_tasks, 10]`."""
        shape = (num_tasks,)
        target = torch.randint(NUM_TARGETS, shape, generator=self.generator, device=self.device)
        one_hot = torch.eye(NUM_TARGETS, device=self.device)[target]
        return TensorDict({TARGET_ARM: one_hot}, [num_tasks], self.device)

    def pull(self, action: Tensor, playing: Tensor) -> Tensor:
        """Pay the arms' rewards, which have no noise."""
        return self.expected_reward(action)

    def expected_reward(self, action: Tensor) -> Tensor:
        """The rewards of the arms, `[B, 1]`, float32."""
        return arm_rewards(self.tasks[TARGET_ARM]).gather(1, action.unsqueeze(1))

    def players(self, num_episodes: int) -> Mapping[str, Player]:
        """Random play, Thompson sampling, and the exact optimum, "bayes_optimal"."""
        return {
            "random": RandomPlayer(self.action_spec_unbatched),
            "thompson": ThompsonSamplingInformative(),
            "bayes_optimal": BayesOptimalInformative(num_episodes),
        }


def arm_rewards(target: Tensor) -> Tensor:
    """The reward of each arm, `[B, 11]`, float32, from the one-hot targets, `[B, 10]`."""
    paid = torch.where(target > 0, TARGET_REWARD, OTHER_REWARD)
    tenths = torch.arange(1, NUM_TARGETS + 1, device=target.device) / NUM_TARGETS
    return torch.cat((paid, (target * tenths).sum(1, keepdim=True)), 1)


class Candidates(NamedTuple):
    """What a player knows about B tasks.

    Attributes:
        possible: whether an arm may be the target, given the rewards so far, `[B, 10]`, bool.
        pull: index of the next pull in its trial, from 0.
    """

    possible: Tensor
    pull: int


class ThompsonSamplingInformative(Player):
    """Samples a target from the posterior and pulls the arm that would be best: the target.

    The informative arm is not the best one for any target, and so it is never pulled.
    """

    def start(self, tasks: TensorDictBase) -> Candidates:
        """Any arm may be the target."""
        shape = (*tasks.batch_size, NUM_TARGETS)
        return Candidates(torch.ones(shape, dtype=torch.bool, device=tasks.device), 0)

    def choose(
        self, memory: Candidates, observation: Observation, generator: torch.Generator
    ) -> Tensor:
        """Pick one of the possible targets."""
        possible = memory.possible
        order = torch.rand(possible.shape, generator=generator, device=possible.device)
        return torch.where(possible, order, -1).argmax(1)

    def learn(self, memory: Candidates, observation: Observation, inputs: Inputs) -> Candidates:
        """Rule out the targets with which the arm would have paid something else."""
        reward = inputs.previous_reward
        of_each_target = arm_rewards(torch.eye(NUM_TARGETS, device=reward.device))
        told = (of_each_target.T[inputs.previous_action] - reward).abs() < RESOLUTION
        return Candidates(memory.possible & told, memory.pull + 1)


class BayesOptimalInformative(ThompsonSamplingInformative):
    """Maximises the expected return of a trial: pulls the informative arm, and then the target.

    With a single pull left, information is useless, and any possible target is best.

    Args:
        num_pulls: length of a trial, in pulls.
    """

    def __init__(self, num_pulls: int) -> None:
        self.num_pulls = num_pulls

    @property
    def value(self) -> float:
        """The exact expected return of a trial, in units of reward."""
        if self.num_pulls == 1:
            return (TARGET_REWARD + (NUM_TARGETS - 1) * OTHER_REWARD) / NUM_TARGETS
        mean_answer = (NUM_TARGETS + 1) / 2 / NUM_TARGETS
        return mean_answer + (self.num_pulls - 1) * TARGET_REWARD

    def choose(
        self, memory: Candidates, observation: Observation, generator: torch.Generator
    ) -> Tensor:
        """Pick an optimal arm, given optimal play so far."""
        arm = super().choose(memory, observation, generator)
        if memory.pull + 1 == self.num_pulls:
            return arm
        return torch.where(memory.possible.sum(1) > 1, INFORMATIVE_ARM, arm)
