"""Exploration by random actions."""

from collections.abc import Mapping

import torch
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import State
from rl2_lightning.agents.spaces import Discrete
from rl2_lightning.families.record import Name
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.inputs import Inputs


class EpsilonGreedyActor:
    """Acts greedily, or at random with a probability of its own for each trial of a batch.

    Of N trials, the i-th acts at random with probability ε^(1 + α i / (N - 1)) (arXiv 1803.00933,
    section 4.1). Implements `families.play.Actor`.

    Args:
        agent: the agent, with discrete actions, used without a copy.
        generator: generator of the actions, on the agent's device.
        epsilon: ε.
        power: α.
        part: rank of this process, and the number of ranks among which the trials are divided.
    """

    def __init__(
        self,
        agent: Agent,
        generator: torch.Generator,
        *,
        epsilon: float,
        power: float,
        part: tuple[int, int] = (0, 1),
    ) -> None:
        self._agent = agent
        self._generator = generator
        self._epsilon, self._power = epsilon, power
        self._part = part
        self._epsilons = torch.empty(0)

    def start(self, env: TrialEnv) -> State:
        """The empty memory."""
        num_trials, (rank, num_ranks) = env.batch_size.numel(), self._part
        place = torch.arange(num_trials, device=env.device) + rank * num_trials
        exponent = 1 + self._power * place / max(1, num_ranks * num_trials - 1)
        self._epsilons = self._epsilon**exponent
        return self._agent.initial_state(num_trials)

    def act(self, inputs: Inputs, state: State) -> tuple[Tensor, State, Mapping[Name, Tensor]]:
        """One step of the agent; the probability of its action is stored."""
        actions, epsilons = self._agent.spec.actions, self._epsilons
        assert isinstance(actions, Discrete)
        best, _, state, _ = self._agent.act(inputs, state, greedy=True)
        generator, device = self._generator, best.device
        drawn = torch.randint(actions.n, best.shape, generator=generator, device=device)
        is_random = torch.rand(best.shape, generator=generator, device=device) < epsilons
        action = torch.where(is_random, drawn, best)
        probability = epsilons / actions.n + (1 - epsilons) * (action == best)
        return action, state, {keys.ACTION_LOG_PROB: probability.log()}

    def tensors(self, state: State) -> State:
        """The memory's state."""
        return state
