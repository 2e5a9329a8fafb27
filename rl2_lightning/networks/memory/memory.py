"""The contract of a memory."""

from typing import Protocol

from tensordict import TensorDictBase
from torchrl.envs import TensorDictPrimer

from rl2_lightning import keys


class Memory(Protocol):
    """What the agent carries from step to step of a trial.

    In step mode it reads one step `[B]` with its state, and writes the features and the next
    state. In recurrent mode (`torchrl.modules.set_recurrent_mode`) it reads a window `[N, W]`
    whose first step carries the state, and writes the features of all steps, and the next state
    of the last. Either way the state is zero where `is_init` is set, and the two modes agree.

    Attributes:
        state_keys: names of the tensors that make up the state.
        output_size: width of the features.
    """

    state_keys: list[str]
    output_size: int

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """The TorchRL transform that puts an empty memory into an environment's resets."""

    def __call__(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Writes features and next state."""


def next_keys(state_keys: list[str]) -> list[tuple[str, str]]:
    """Where a memory writes the state that the next step reads."""
    return [(keys.NEXT, key) for key in state_keys]
