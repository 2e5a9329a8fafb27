"""The critic, which uses the agent's features or has a memory of its own."""

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
from rl2_lightning.agents.products import Linear
from rl2_lightning.data.windows import as_tensordict, inputs_of
from rl2_lightning.errors import UserError
from rl2_lightning.inputs import Inputs
from rl2_lightning.learners.credit import clear, valued_steps
from rl2_lightning.settings import POSITIVE, Settings

MAX_NUMBERS = 2**24  # of features held at once while computing the values of whole trials


@dataclass
class CriticSettings(Settings):
    """Settings of a critic.

    Attributes:
        separate: whether it has an encoder and a memory of its own, with the agent's settings.
        sees_task: whether it gets the parameters of the task in addition to the features.
        hidden_sizes: widths of the hidden layers.
    """

    separate: bool = False
    sees_task: bool = False
    hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)


class Critic(nn.Module):
    """Estimates the value from the history.

    Its head gets the features and the elapsed fraction of the trial, and optionally the task (arXiv
    1710.06542). Even with the task it needs the features: without the history its values would be
    biased (arXiv 2105.11674). A task is constant over its trial. To avoid copying it for each step,
    the head's first layer is a sum of terms.

    Args:
        agent: the agent whose values it estimates.
        settings: the critic's settings.
        task_sizes: number of elements of each task parameter, by (dotted) name.

    Raises:
        UserError: `sees_task` is set, but the tasks have no parameters.
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
        # Features of single actions are only used by the policy.
        self.of_features = Linear(agent.memory.summary_size, first)
        self._num_features = agent.memory.output_size
        self.of_elapsed = Linear(1, first, bias=False)
        initialise_linear(self.of_features, gain)
        initialise_linear(self.of_elapsed, gain)
        self._task_names = sorted(task_sizes) if settings.sees_task else []
        if settings.sees_task:
            if not task_sizes:
                raise UserError(
                    "learner.critic.sees_task=true but the tasks of this family have no "
                    "parameters: set learner.critic.sees_task=false"
                )
            self.of_task = Linear(sum(task_sizes.values()), first, bias=False)
            initialise_linear(self.of_task, gain)
        self.layers = nn.Sequential()
        if rest:
            self.layers = nn.Sequential(nn.ReLU(), *fully_connected(first, rest[:-1], 1))

    def value(self, features: Tensor, elapsed: Tensor, tasks: TensorDictBase | None) -> Tensor:
        """The values of windows, `[N, W, 1]`.

        Args:
            features: the agent's features, or those of `unroll`, `[N, W, H]`.
            elapsed: elapsed fraction of the trial, `[N, W, 1]`.
            tasks: parameters of the tasks, `[N]`, if `sees_task` is set.
        """
        # Features are stored time-major: passing them in this order avoids a copy.
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
        """The state of its own memory at the start of trials."""
        return self.memory.initial_state(num)

    def unroll(
        self,
        inputs: Inputs,
        state: State,
        is_init: Tensor | None = None,
        playing: Tensor | None = None,
    ) -> tuple[Tensor, State]:
        """Its own features of a window; like `Agent.unroll`."""
        encoding = self.encoder(inputs, playing).float()
        features, state = self.memory.unroll(encoding, state, is_init)
        return features.float(), state

    @torch.no_grad()
    def add_values(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """Compute the values of whole trials in one pass.

        Args:
            trials: `[B]`, with steps `[B, T]`, including the agent's features unless the critic has
                a memory of its own.
            state_steps: steps before which the state of that memory is stored.

        Returns:
            The trials, with the values, `[B, T, 1]`, in place of the features, and with the states,
            `[B, len(state_steps)]`, of its own memory.
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
        states = torch.cat([part[1] for part in parts]) if len(parts) > 1 else parts[0][1]
        steps = steps.copy().set(keys.STATE_VALUE, values)
        return trials.copy().set(keys.STEPS, steps).set(keys.CRITIC_STATE, states)

    def _values_of(
        self, trials: TensorDictBase, counts: Tensor, state_steps: Sequence[int]
    ) -> tuple[Tensor, TensorDictBase]:
        """The values, `[B, T, 1]`, of some trials where they count, and the memory's states."""
        steps, tasks = trials.get(keys.STEPS), trials.get(keys.TASK)
        ends = [*state_steps[1:], steps.batch_size[1]]
        state, states, values = self.initial_state(len(trials)), [], []
        # Two windows may share a step, when a burn-in reaches back to the trial's start.
        for start, end in pairwise([state_steps[0], *ends]):
            states.append(as_tensordict(state, [len(trials)]))
            if start == end:
                continue
            playing = counts[:, start:end]
            # A memory that processes all steps at once would spread values of idle ones.
            part = steps[:, start:end] if playing.all() else clear(steps[:, start:end], playing)
            features, state = self.unroll(inputs_of(part), state, playing=playing)
            values.append(self.value(features, part.get(keys.ELAPSED), tasks))
        # A single one is not copied: it may be in memory once for all trials.
        together = torch.stack(states, dim=1) if len(states) > 1 else states[0].unsqueeze(1)
        return torch.cat(values, dim=1), together
