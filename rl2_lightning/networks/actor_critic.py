"""The agent: encoder, memory, and the heads of actor and critic."""

from collections.abc import Callable, Sequence
from typing import cast

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torch import nn
from torchrl.data import Composite, TensorSpec
from torchrl.modules import set_recurrent_mode

from rl2_lightning import keys
from rl2_lightning.networks.encoder import Encoder
from rl2_lightning.networks.heads import TimedValue, actor_head, critic_head
from rl2_lightning.networks.memory.memory import Memory, next_keys


class ActorCritic(TensorDictModuleBase):
    """An actor and a critic over a shared memory, or over one memory each.

    As a policy it takes one step `[B]` with the state of its memory, and writes an action, the
    action's log-probability, the value, and the memory's next state. A learner calls `unroll`
    on windows, and then the heads `actor` and `critic` on the features that this wrote.

    The critic may see the task (arXiv 1710.06542), beside what it remembers, for without that its
    values would be biased (arXiv 2105.11674). No task is shown to one who acts: values then come
    after the collection, from `add_values`.

    Args:
        observation_spec: unbatched spec of what the environment shows; under `task`, if the
            critic sees it, that of the task's parameters.
        action_spec: unbatched spec of the action.
        make_memory: builds a memory from `input_size`, `in_key`, `out_key` and `state_key`.
        separate: actor and critic have an encoder and a memory each.
        inputs: the RL² inputs that the agent sees.
        encoder_hidden_sizes: widths of the encoder's layers.
        actor_hidden_sizes: widths of the layers of the actor's head.
        critic_hidden_sizes: widths of the layers of the critic's head.

    Attributes:
        critic_sees_task: whether values depend on the task.
        head_keys: what the heads read of a window that was unrolled.
    """

    def __init__(
        self,
        observation_spec: Composite,
        action_spec: TensorSpec,
        make_memory: Callable[..., Memory],
        *,
        separate: bool,
        inputs: Sequence[str],
        encoder_hidden_sizes: Sequence[int],
        actor_hidden_sizes: Sequence[int],
        critic_hidden_sizes: Sequence[int],
    ) -> None:
        super().__init__()
        names = ["actor", "critic"] if separate else ["shared"]
        encoders = [
            Encoder(
                observation_spec,
                inputs=inputs,
                hidden_sizes=encoder_hidden_sizes,
                out_key=f"{name}_encoding",
            )
            for name in names
        ]
        memories = [
            make_memory(input_size=encoder.output_size, **_memory_keys(name))
            for name, encoder in zip(names, encoders, strict=True)
        ]
        self.encoders = nn.ModuleDict(dict(zip(names, encoders, strict=True)))
        self.memories = nn.ModuleDict(
            {name: cast(nn.Module, memory) for name, memory in zip(names, memories, strict=True)}
        )
        self.feature_keys = [f"{name}_features" for name in names]
        self.actor = actor_head(
            memories[0].output_size, action_spec, actor_hidden_sizes, in_key=self.feature_keys[0]
        )
        task_spec = observation_spec.get(keys.TASK, None)
        self.critic_sees_task = task_spec is not None
        self.critic = critic_head(
            memories[-1].output_size,
            critic_hidden_sizes,
            in_key=self.feature_keys[-1],
            task_spec=task_spec,
        )
        self.head_keys = list(dict.fromkeys([*self.feature_keys, *self.critic.in_keys]))
        self.state_keys = [key for memory in memories for key in memory.state_keys]
        self.in_keys = [*encoders[0].in_keys, keys.ELAPSED, keys.IS_INIT, *self.state_keys]
        value = keys.STEP_TERM if self.critic_sees_task else keys.STATE_VALUE
        written = [keys.ACTION, keys.ACTION_LOG_PROB, value]
        self.out_keys = [*written, *next_keys(self.state_keys)]

    def remember(self, steps: TensorDictBase) -> TensorDictBase:
        """Passes steps through encoder and memory.

        Args:
            steps: one step `[B]`, or in recurrent mode a window `[N, W]`.

        Returns:
            The steps with the features that the heads read, and the memory's next state.
        """
        for encoder, memory in zip(self.encoders.values(), self.memories.values(), strict=True):
            steps = memory(encoder(steps))
        return steps

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Acts: writes action, its log-probability, the value and the memory's next state.

        Where the value depends on the task, its term of the step stands in for it.
        """
        steps = self.remember(tensordict.select(*self.in_keys))
        if self.critic_sees_task:
            seen = steps.get(self.feature_keys[-1]), steps.get(keys.ELAPSED)
            steps.set(keys.STEP_TERM, self._value.step_term(*seen))
        else:
            steps = self.critic(steps)
        return tensordict.update(self.actor(steps).select(*self.out_keys))

    @torch.no_grad()
    def add_values(self, trials: TensorDictBase, tasks: TensorDictBase) -> TensorDictBase:
        """Completes the values of collected trials, where they depend on the task.

        Args:
            trials: as acted, `[B, T]`.
            tasks: the parameters of their tasks, `[B]`.

        Returns:
            The trials with the values in place of their terms.
        """
        terms = trials.get(keys.STEP_TERM) + self._value.task_term(tasks).unsqueeze(1)
        return trials.exclude(keys.STEP_TERM).set(keys.STATE_VALUE, self._value.layers(terms))

    @property
    def _value(self) -> TimedValue:
        return cast(TimedValue, self.critic.module)

    def unroll(
        self, window: TensorDictBase, state: TensorDictBase, tasks: TensorDictBase | None = None
    ) -> TensorDictBase:
        """Passes a window through encoder and memory, from a given state of the memory.

        Args:
            window: `[N, W]`, with the inputs and `is_init`.
            state: the memory's state at the first step, `[N]`.
            tasks: the parameters of the tasks, `[N]`, where the critic sees them and is wanted.

        Returns:
            The window with what the heads read: the features `[N, W, H]` of actor and critic,
            and the critic's term of the task, `[N, W, C]`.
        """
        steps = window.copy()
        length = window.batch_size[1]
        for key in self.state_keys:
            # Only the first step's state is read.
            first = state.get(key).unsqueeze(1)
            steps.set(key, first.expand(-1, length, *first.shape[2:]))
        if tasks is not None:
            term = self._value.task_term(tasks).unsqueeze(1)
            steps.set(keys.TASK_TERM, term.expand(-1, length, -1))
        with set_recurrent_mode(True):
            return self.remember(steps)

    @torch.no_grad()
    def warm(self, burn_in: TensorDictBase, state: TensorDictBase) -> TensorDict:
        """Passes a burn-in through the memory, without gradient.

        Args:
            burn_in: `[N, b]`, with the inputs and `is_init`.
            state: the memory's state at the first step, `[N]`.

        Returns:
            The memory's state after the last step, `[N]`.
        """
        steps = self.unroll(burn_in, state)
        # In recurrent mode the states of the other steps are placeholders.
        last = {key: steps.get((keys.NEXT, key))[:, -1] for key in self.state_keys}
        return TensorDict(last, batch_size=state.batch_size)


def _memory_keys(name: str) -> dict[str, str]:
    return {
        "in_key": f"{name}_encoding",
        "out_key": f"{name}_features",
        "state_key": f"{name}_memory",
    }
