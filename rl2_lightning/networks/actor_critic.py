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
from rl2_lightning.networks.heads import actor_head, critic_head
from rl2_lightning.networks.memory.memory import Memory, next_keys


class ActorCritic(TensorDictModuleBase):
    """An actor and a critic over a shared memory, or over one memory each.

    As a policy it takes one step `[B]` with the state of its memory, and writes an action, the
    action's log-probability, the value, and the memory's next state. A learner calls `unroll`
    on windows, and then the heads `actor` and `critic` on the features that this wrote.

    Args:
        observation_spec: unbatched spec of what the environment shows.
        action_spec: unbatched spec of the action.
        make_memory: builds a memory from `input_size`, `in_key`, `out_key` and `state_key`.
        separate: actor and critic have an encoder and a memory each.
        inputs: the RL² inputs that the agent sees.
        encoder_hidden_sizes: widths of the encoder's layers.
        actor_hidden_sizes: widths of the layers of the actor's head.
        critic_hidden_sizes: widths of the layers of the critic's head.
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
            make_memory(
                input_size=encoder.output_size,
                in_key=f"{name}_encoding",
                out_key=f"{name}_features",
                state_key=f"{name}_memory",
            )
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
        self.critic = critic_head(
            memories[-1].output_size, critic_hidden_sizes, in_key=self.feature_keys[-1]
        )
        self.state_keys = [key for memory in memories for key in memory.state_keys]
        self.in_keys = [*encoders[0].in_keys, keys.ELAPSED, keys.IS_INIT, *self.state_keys]
        written = [keys.ACTION, keys.ACTION_LOG_PROB, keys.STATE_VALUE]
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
        """Acts: writes action, its log-probability, the value and the memory's next state."""
        steps = self.actor(self.critic(self.remember(tensordict.select(*self.in_keys))))
        return tensordict.update(steps.select(*self.out_keys))

    def unroll(self, window: TensorDictBase, state: TensorDictBase) -> TensorDictBase:
        """Passes a window through encoder and memory, from a given state of the memory.

        Args:
            window: `[N, W]`, with the inputs and `is_init`.
            state: the memory's state at the first step, `[N]`.

        Returns:
            The window with the features `[N, W, H]` of actor and critic.
        """
        steps = window.copy()
        length = window.batch_size[1]
        for key in self.state_keys:
            # Only the first step's state is read.
            first = state.get(key).unsqueeze(1)
            steps.set(key, first.expand(-1, length, *first.shape[2:]))
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
