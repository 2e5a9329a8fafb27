"""Eleven arms, one of which tells where the reward is (arXiv 1611.05763, section 3.1).

One of the first ten arms is the target and pays 5, the other nine pay 1. The last arm pays a
tenth of the target's number, 1 to 10: less than any other, but it gives the target away.
"""

from abc import abstractmethod

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow

NUM_TARGETS = 10
NUM_ARMS = NUM_TARGETS + 1
INFORMATIVE_ARM = NUM_TARGETS
TARGET_REWARD = 5.0
OTHER_REWARD = 1.0


def sample_targets(num_tasks: int, generator: torch.Generator) -> TensorDict:
    """Draws the target of each task, one-hot, `[num_tasks, 10]`, float32; any is as likely."""
    device = generator.device
    target = torch.randint(NUM_TARGETS, (num_tasks,), generator=generator, device=device)
    one_hot = torch.eye(NUM_TARGETS, device=device)[target]
    return TensorDict({keys.TARGET_ARM: one_hot}, [num_tasks], device)


def arm_rewards(tasks: TensorDictBase) -> Tensor:
    """Gives what each arm pays, `[B, 11]`, float32, from the one-hot targets of tasks `[B]`."""
    target: Tensor = tasks[keys.TARGET_ARM]
    paid = torch.where(target > 0, TARGET_REWARD, OTHER_REWARD)
    tenths = torch.arange(1, NUM_TARGETS + 1, device=target.device) / NUM_TARGETS
    return torch.cat((paid, (target * tenths).sum(1, keepdim=True)), 1)


class InformativePolicy(Oracle):
    """A rule that picks an arm from which targets are still possible."""

    def play(self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator) -> Tensor:
        """Plays one trial of every bandit, all at once on the device of the tasks.

        Args:
            tasks: hold the targets, one-hot, `[B, 10]`, float32; batch size `[B]`.
            num_episodes: length of each trial, in pulls.
            generator: source of all randomness, on the device of the tasks.

        Returns:
            Reward of every pull, `[B, num_episodes]`, float32.
        """
        pays = arm_rewards(tasks)
        target: Tensor = tasks[keys.TARGET_ARM] > 0
        possible = torch.ones_like(target)
        rewards = pays.new_empty(num_episodes, len(pays))
        for pull in track_slow(range(num_episodes), f"playing {type(self).__name__}"):
            arm = self.choose(possible, num_episodes - pull, generator).unsqueeze(1)
            rewards[pull] = pays.gather(1, arm).squeeze(1)
            possible = possible & consistent(target, arm)
        return rewards.T.contiguous()

    @abstractmethod
    def choose(self, possible: Tensor, left: int, generator: torch.Generator) -> Tensor:
        """Picks the next arm of every bandit.

        Args:
            possible: whether an arm may be the target, by what was seen, `[B, 10]`, bool.
            left: pulls that are left, this one included.
            generator: source of randomness, on the device of the tasks.

        Returns:
            Index of the arm, `[B]`, int64.
        """


def consistent(target: Tensor, arm: Tensor) -> Tensor:
    """Tells which targets the reward of a pull leaves possible.

    Args:
        target: the true one, one-hot, `[B, 10]`, bool.
        arm: the arm that was pulled, `[B, 1]`, int64.

    Returns:
        `[B, 10]`, bool: the target alone, where it was pulled or the informative arm was; else
        all but the arm that was pulled.
    """
    arms = torch.arange(NUM_TARGETS, device=target.device)
    pulled = arms == arm
    told = (arm == INFORMATIVE_ARM) | (pulled & target).any(1, keepdim=True)
    return torch.where(told, target, ~pulled)


class RandomInformative(InformativePolicy):
    """Pulls any of the eleven arms with the same probability."""

    def choose(self, possible: Tensor, left: int, generator: torch.Generator) -> Tensor:
        """Picks an arm uniformly; see `InformativePolicy.choose`."""
        size = (len(possible),)
        return torch.randint(NUM_ARMS, size, generator=generator, device=possible.device)


class ThompsonSamplingInformative(InformativePolicy):
    """Samples a target from the posterior and pulls what would be best then: the target.

    The informative arm is the best one for no target, and so it is never pulled.
    """

    def choose(self, possible: Tensor, left: int, generator: torch.Generator) -> Tensor:
        """Picks one of the possible targets; see `InformativePolicy.choose`."""
        order = torch.rand(possible.shape, generator=generator, device=possible.device)
        return torch.where(possible, order, -1).argmax(1)


class BayesOptimalInformative(ThompsonSamplingInformative):
    """Maximises the expected return of a trial: asks first, and then pulls the target.

    With a single pull left there is no use in asking, and any possible target is best.
    """

    def choose(self, possible: Tensor, left: int, generator: torch.Generator) -> Tensor:
        """Picks an arm that is optimal after optimal play; see `InformativePolicy.choose`."""
        arm = super().choose(possible, left, generator)
        if left == 1:
            return arm
        return torch.where(possible.sum(1) > 1, INFORMATIVE_ARM, arm)

    @staticmethod
    def value(num_pulls: int) -> float:
        """The exact expected return of a trial of so many pulls, in units of reward."""
        if num_pulls == 1:
            return (TARGET_REWARD + (NUM_TARGETS - 1) * OTHER_REWARD) / NUM_TARGETS
        mean_answer = (NUM_TARGETS + 1) / 2 / NUM_TARGETS
        return mean_answer + (num_pulls - 1) * TARGET_REWARD


def informative_bandit_oracles() -> dict[str, Oracle]:
    """Gives the players of the informative bandit; all but the random one know its law.

    Returns:
        The players by name; the last one is the exact optimum, "bayes_optimal".
    """
    return {
        "random": RandomInformative(),
        "thompson": ThompsonSamplingInformative(),
        "bayes_optimal": BayesOptimalInformative(),
    }
