"""What can be set of an agent; light to import."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl2_lightning.settings import POSITIVE, Settings

INPUTS = ("observation", "previous_action", "previous_reward", "previous_done")


@dataclass
class AgentSettings(Settings):
    """What can be set of an agent, beside its memory.

    Attributes:
        inputs: which of the fields of `Inputs` it sees.
        encoder_hidden_sizes: widths of the layers before the memory.
        policy_hidden_sizes: widths of the layers between the memory and the policy.
    """

    inputs: list[str] = field(default_factory=lambda: list(INPUTS))
    encoder_hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)
    policy_hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)
