"""The agent: inputs, encoder, memory, policy."""

from __future__ import annotations

from numbers import Integral
from os import PathLike
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from rl2_lightning.agents.belief import Belief, BeliefMemory
from rl2_lightning.agents.heads import ShowingMemory
from rl2_lightning.agents.memories.memory import State
from rl2_lightning.agents.session import Session
from rl2_lightning.agents.spaces import placeholder_of
from rl2_lightning.agents.spec import AgentSpec
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs, Observation, first_inputs, next_inputs, no_action

LARGEST_BUFFERS = 2**30  # bytes of an agent's buffers


class Step(NamedTuple):
    """The result of an agent's step.

    Attributes:
        action: `[B]`, int64, or `[B, A]`, int64 or float32.
        log_probability: log-probability of the action, `[B]`, float32.
        state: state of the memory after the step.
        features: the memory's output for the policy, `[B, H]`, float32.
    """

    action: Tensor
    log_probability: Tensor
    state: State
    features: Tensor


class Agent(nn.Module):
    """A recurrent policy, which needs neither environment nor trainer.

    ```python
    agent = Agent.load("last.ckpt")
    session = agent.session(num_users=3)
    while True:
        action = session.act(observation)
        observation, reward, done = world(action)
        session.observe(reward, done)
    ```

    A session holds inputs and memory of each user. The same with both in your hands:

    ```python
    inputs, state = agent.first_inputs(observation), agent.initial_state(len(observation))
    while True:
        action, _, state, _ = agent.act(inputs, state)
        observation, reward, done = world(action)
        inputs = agent.next_inputs(inputs, action, observation, reward, done)
    ```

    Args:
        spec: describes its parts.
    """

    def __init__(self, spec: AgentSpec) -> None:
        super().__init__()
        self.spec = spec
        self.encoder = spec.make_encoder()
        self.memory = spec.make_memory(self.encoder)
        self.policy = spec.make_policy(self.memory)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Agent:
        """Load an agent from a checkpoint, for acting.

        Args:
            path: path of a checkpoint written by a training.

        Raises:
            UserError: the file is not a complete checkpoint, or its weights do not fit its spec.
        """
        from rl2_lightning.checkpoint import Checkpoint

        checkpoint = Checkpoint.read(path)
        spec = AgentSpec.from_plain(checkpoint.agent_spec)
        checkpoint.require_fitting(_outline(spec), prefix="agent.")
        agent = cls(spec)
        checkpoint.load_into(agent, prefix="agent.")
        return agent.eval()

    def session(
        self, num_users: int = 0, *, greedy: bool = False, seed: int | None = None
    ) -> Session:
        """Act for users, each with a memory of its own.

        Args:
            num_users: number of users at first, called 0, 1, ...; others can be added.
            greedy: whether to take the most likely actions instead of sampling.
            seed: seed of the samples; None for a new one in each session.

        Raises:
            UserError: the number is negative, or no whole one.
        """
        if not isinstance(num_users, Integral) or num_users < 0:
            raise UserError(f"num_users={num_users}: give a whole number of at least 0")
        return Session(self, num_users, greedy=greedy, seed=seed)

    def export(
        self,
        path: str | PathLike[str],
        format: str = "torch",  # noqa: A002 - as other libraries call it
    ) -> None:
        """Write the agent's step as a program that runs without this package.

        See `rl2_lightning.agents.export`. The program is compared with this agent before it is
        written.

        Args:
            path: path of the file, which must not exist.
            format: "torch" for `torch.export`, or "onnx", which needs the extra `onnx`.

        Raises:
            UserError: the file exists, the format is unknown or its extra missing, or the agent
                cannot be exported.
        """
        from rl2_lightning.agents.export import export

        export(self, path, format)

    def initial_state(self, num: int, generator: torch.Generator | None = None) -> State:
        """The memory's state at the start of trials.

        Args:
            num: number of trials.
            generator: source of the noise of an agent that acts on samples of its belief; without
                one it acts on the mean. Other agents need none.

        Returns:
            Tensors `[num, ...]`.
        """
        state = self.memory.initial_state(num)
        return state if generator is None else self.memory.with_noise(state, generator)

    def first_inputs(self, observation: Observation) -> Inputs:
        """The inputs at the start of trials with an observation `[B, *observation]`."""
        some = observation if isinstance(observation, Tensor) else next(iter(observation.values()))
        nothing = no_action(some.shape[0], placeholder_of(self.spec.actions), some.device)
        return first_inputs(observation, nothing)

    def next_inputs(
        self,
        inputs: Inputs,
        action: Tensor,
        observation: Observation,
        reward: Tensor,
        done: Tensor,
    ) -> Inputs:
        """The inputs after a step.

        Args:
            inputs: the inputs before the step.
            action: the action taken, `[B]` or `[B, A]`.
            observation: `[B, *observation]`; after the end of an episode, the first of the next.
            reward: `[B]` or `[B, 1]`, float.
            done: whether the step ended an episode, `[B]` or `[B, 1]`.
        """
        column = (len(action), 1)
        reward, done = reward.reshape(column).float(), done.reshape(column)
        return next_inputs(inputs, action, observation, reward, done)

    @torch.no_grad()
    def act(
        self,
        inputs: Inputs,
        state: State,
        *,
        greedy: bool = False,
        generator: torch.Generator | None = None,
    ) -> Step:
        """Take one step of B trials.

        Args:
            inputs: the inputs, `[B]`.
            state: state of the memory.
            greedy: whether to take the most likely actions instead of sampling.
            generator: generator of the actions; None for PyTorch's global one.
        """
        features, state = self.memory.step(self.encoder(inputs).float(), state)
        features = features.float()
        action, log_probability = self.policy.act(features, greedy=greedy, generator=generator)
        return Step(action, log_probability, state, features)

    def unroll(
        self,
        inputs: Inputs,
        state: State,
        is_init: Tensor | None = None,
        playing: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Pass a window through encoder and memory.

        Args:
            inputs: the inputs, `[B, T]`.
            state: state of the memory before the first step.
            is_init: where trials begin, `[B, T, 1]`, bool; None for nowhere within the window.
            playing: where features are needed, `[B, T, 1]`, bool; None for everywhere.

        Returns:
            The features, `[B, T, H]`, and the state after the last step.
        """
        encoding = self.encoder(inputs, playing).float()
        features, state = self.memory.unroll(encoding, state, is_init)
        return features.float(), state

    def beliefs(self, inputs: Inputs, playing: Tensor | None = None) -> Belief:
        """The beliefs over the latent task before each step of whole trials, `[B, T, D]`.

        Args:
            inputs: the inputs, `[B, T]`, from the first step on.
            playing: where beliefs are needed, `[B, T, 1]`, bool; None for everywhere.

        Raises:
            UserError: the agent has no belief.
        """
        if self.spec.settings.belief.form == "none":
            raise UserError("this agent has no belief: set agent.belief.form=moments")
        encoding = self.encoder(inputs, playing)
        return cast(BeliefMemory | ShowingMemory, self.memory).beliefs(encoding.float())


def _outline(spec: AgentSpec) -> Agent:
    """An agent on the device `meta`: a file may describe one that is too large for any memory.

    Raises:
        UserError: the agent cannot be built or its buffers are too large.
    """
    try:
        with torch.device("meta"):
            agent = Agent(spec)
    except UserError:
        raise
    except Exception as error:  # each layer raises its own error for too large a size
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"the agent in the checkpoint cannot be built: {reason}; use another one"
        ) from error
    size = sum(buffer.numel() * buffer.element_size() for buffer in agent.buffers())
    if size > LARGEST_BUFFERS:
        raise UserError(
            f"the agent in the checkpoint takes {size} bytes beside its weights: use another one"
        )
    return agent
