"""Act with an agent in trials."""

from collections.abc import Mapping

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import State
from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.families.record import Name
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.inputs import Inputs


class AgentActor:
    """Acts with an agent; implements `families.play.Actor`.

    Args:
        agent: the agent, used without a copy.
        generator: generator of the actions, on the agent's device.
        greedy: whether to take the most likely actions instead of sampling.
        keeps_features: whether to store the features, too.
    """

    def __init__(
        self,
        agent: Agent,
        generator: torch.Generator,
        *,
        greedy: bool = False,
        keeps_features: bool = False,
    ) -> None:
        self._agent = agent
        self._generator = generator
        self._greedy = greedy
        self._keeps_features = keeps_features

    def start(self, env: TrialEnv) -> State:
        """The empty memory, with the noise of samples unless play is greedy."""
        generator = None if self._greedy else self._generator
        return self._agent.initial_state(env.batch_size.numel(), generator)

    def act(self, inputs: Inputs, state: State) -> tuple[Tensor, State, Mapping[Name, Tensor]]:
        """One step of the agent; its log-probability is stored."""
        action, log_probability, state, features = self._agent.act(
            inputs, state, greedy=self._greedy, generator=self._generator
        )
        extra: dict[Name, Tensor] = {keys.ACTION_LOG_PROB: log_probability}
        if self._keeps_features:
            extra[keys.FEATURES] = features
        return action, state, extra

    def tensors(self, state: State) -> State:
        """The memory's state."""
        return state


def require_finite(steps: TensorDictBase, agent: Agent, env: TrialEnv) -> None:
    """Check that the numbers of played trials are finite.

    Args:
        steps: `[B, T]`, with rewards, mask and the log-probabilities of the actions.
        agent: the agent that played.
        env: the environment of the trials.

    Raises:
        NonFiniteLossError: a reward or a probability that counts is not finite.
    """
    idle = ~steps[keys.MASK].squeeze(-1)
    reward, log_probability = steps[keys.REWARD].squeeze(-1), steps[keys.ACTION_LOG_PROB]
    # Their sum first, since a GPU has to finish its work before it can be asked anything.
    if (reward + log_probability).masked_fill(idle, 0.0).isfinite().all():
        return
    family = type(env.task_env).__name__
    if not reward.masked_fill(idle, 0.0).isfinite().all():
        raise NonFiniteLossError(f"{family} returned a non-finite reward: fix the environment")
    if log_probability.masked_fill(idle, 0.0).isfinite().all():
        return
    if all(parameter.isfinite().all() for parameter in agent.parameters()):
        raise NonFiniteLossError(
            f"{family} returned a non-finite or too large observation: fix the environment"
        )
    raise NonFiniteLossError("the agent's weights are not finite: lower the learning rates")
