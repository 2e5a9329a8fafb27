"""The critic: a learner's own, on the agent's features or with a memory of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import cast

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.initialisation import fully_connected, initialise_linear
from rl2_lightning.agents.memories.memory import State
from rl2_lightning.data.windows import as_tensordict, inputs_of
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs
from rl2_lightning.learners.credit import clear, valued_steps
from rl2_lightning.settings import POSITIVE, Settings

MAX_NUMBERS = 2**24  # of features held at once, where values of whole trials are computed


@dataclass
class CriticSettings(Settings):
    """What can be set of a critic.

    Attributes:
        separate: it has an encoder and a memory of its own, built as the agent's are.
        sees_task: it gets the parameters of the task beside what it remembers.
        hidden_sizes: widths of the layers before the value.
    """

    separate: bool = False
    sees_task: bool = False
    hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)


class Critic(nn.Module):
    """From what was shown so far to a value.

    Its head also gets the elapsed fraction of the trial, and may get the task (arXiv 1710.06542),
    beside what it remembers: without that its values would be biased (arXiv 2105.11674). A task is
    constant over its trial, so that it is not copied for each of its steps: the head's first layer
    is a sum of terms.

    Args:
        agent: whose values it gives.
        settings: what it is made of.
        task_sizes: how many numbers each parameter of a task has, by (dotted) name.

    Raises:
        UserError: it is to see tasks that have no parameters.
    """

    def __init__(
        self, agent: Agent, settings: CriticSettings, task_sizes: Mapping[str, int]
    ) -> None:
        super().__init__()
        self.is_separate = settings.separate
        if settings.separate:
            self.encoder = agent.spec.make_encoder()
            self.memory = agent.spec.make_memory(self.encoder)
        first, *rest = [*settings.hidden_sizes, 1]
        gain = 2**0.5 if rest else 1.0
        # What is of single actions is left to the policy.
        self.of_features = nn.Linear(agent.memory.summary_size, first)
        self._num_features = agent.memory.output_size
        self.of_elapsed = nn.Linear(1, first, bias=False)
        initialise_linear(self.of_features, gain)
        initialise_linear(self.of_elapsed, gain)
        self._task_names = sorted(task_sizes) if settings.sees_task else []
        if settings.sees_task:
            if not task_sizes:
                raise UserError(
                    "learner.critic.sees_task=true but the tasks of this family have no "
                    "parameters: set learner.critic.sees_task=false"
                )
            self.of_task = nn.Linear(sum(task_sizes.values()), first, bias=False)
            initialise_linear(self.of_task, gain)
        self.layers = nn.Sequential()
        if rest:
            self.layers = nn.Sequential(nn.ReLU(), *fully_connected(first, rest[:-1], 1))

    def value(self, features: Tensor, elapsed: Tensor, tasks: TensorDictBase | None) -> Tensor:
        """The values of windows, `[N, W, 1]`.

        Args:
            features: the agent's or its own, `[N, W, H]`.
            elapsed: elapsed fraction of the trial, `[N, W, 1]`.
            tasks: parameters of the tasks, `[N]`, if it sees them.
        """
        # Features lie step by step in memory: passed in this order, they need not be copied.
        summary = features[..., : self.of_features.in_features]
        of_features = self.of_features(summary.transpose(0, 1)).transpose(0, 1)
        terms = of_features + self.of_elapsed(elapsed)
        if self._task_names:
            assert tasks is not None
            flat = tasks.flatten_keys()
            parts = [flat.get(name).reshape(len(flat), -1).float() for name in self._task_names]
            terms = terms + self.of_task(torch.cat(parts, dim=-1)).unsqueeze(1)
        return cast(Tensor, self.layers(terms))

    def initial_state(self, num: int) -> State:
        """The state of its own memory where trials begin."""
        return self.memory.initial_state(num)

    def unroll(
        self,
        inputs: Inputs,
        state: State,
        is_init: Tensor | None = None,
        playing: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Its own features of a window, as `Agent.unroll` gives the agent's."""
        encoding = self.encoder(inputs, playing).float()
        features, state = self.memory.unroll(encoding, state, is_init)
        return features.float(), state

    @torch.no_grad()
    def add_values(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """Computes the values of whole trials, in one pass.

        Args:
            trials: `[B]`, with steps `[B, T]`; and with the agent's features, unless the critic
                has a memory of its own.
            state_steps: steps before which the state of that memory is kept.

        Returns:
            The trials, whose steps hold the values, `[B, T, 1]`, in place of the features; and with
            the states, `[B, len(state_steps)]`.
        """
        steps = trials.get(keys.STEPS)
        if not self.is_separate:
            features = steps.get(keys.FEATURES)
            values = self.value(features, steps.get(keys.ELAPSED), trials.get(keys.TASK))
            steps = steps.exclude(keys.FEATURES).set(keys.STATE_VALUE, values)
            return trials.copy().set(keys.STEPS, steps)
        rows = max(1, MAX_NUMBERS // (steps.batch_size[1] * self._num_features))
        split = zip(trials.split(rows), valued_steps(steps).split(rows), strict=True)
        parts = [self._values_of(part, counts, state_steps) for part, counts in split]
        values = torch.cat([part[0] for part in parts])
        states = torch.cat([part[1] for part in parts])
        steps = steps.copy().set(keys.STATE_VALUE, values)
        return trials.copy().set(keys.STEPS, steps).set(keys.CRITIC_STATE, states)

    def _values_of(
        self, trials: TensorDictBase, counts: Tensor, state_steps: Sequence[int]
    ) -> tuple[Tensor, TensorDictBase]:
        """The values of some trials where they count, `[B, T, 1]`, and the states of the memory."""
        steps, tasks = trials.get(keys.STEPS), trials.get(keys.TASK)
        ends = [*state_steps[1:], steps.batch_size[1]]
        state, states, values = self.initial_state(len(trials)), [], []
        # Two windows may begin at the same step: where a burn-in reaches back to the trial's start.
        for start, end in pairwise([state_steps[0], *ends]):
            states.append(as_tensordict(state, [len(trials)]))
            if start == end:
                continue
            playing = counts[:, start:end]
            # A memory that takes all steps at once would spread what stands on idle ones.
            part = steps[:, start:end] if playing.all() else clear(steps[:, start:end], playing)
            features, state = self.unroll(inputs_of(part), state, playing=playing)
            values.append(self.value(features, part.get(keys.ELAPSED), tasks))
        return torch.cat(values, dim=1), torch.stack(states, dim=1)
