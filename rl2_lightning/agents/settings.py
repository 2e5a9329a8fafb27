"""What can be set of an agent; light to import."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl2_lightning.settings import POSITIVE, Settings, between, one_of

INPUTS = ("observation", "previous_action", "previous_reward", "previous_done")


@dataclass
class ActionQuerySettings(Settings):
    """What can be set of the matrix that is asked once for each action.

    Attributes:
        keys: "drawn", orthogonal, with which nothing that is learnt depends on how many actions
            there are; or "learned", one for each action, beginning there.
        of_observation: a key is that of an action and the observation in which it is taken.
        key_size: width of a key.
        value_size: width of what is kept under it.
    """

    keys: str = one_of("drawn", "learned", default="drawn")
    of_observation: bool = False
    key_size: int = between(1, default=64)
    value_size: int = between(1, default=16)


@dataclass
class AgentSettings(Settings):
    """What can be set of an agent, beside its memory.

    Attributes:
        inputs: which of the fields of `Inputs` it sees.
        encoder_hidden_sizes: widths of the layers before the memory.
        policy_hidden_sizes: widths of the layers between the memory and the policy.
        policy_head: what they are: "layers", from all features to all actions; "hypernetwork",
            from the observation, with weights that the memory gives; or "action_queries", the same
            for each action, that score what a matrix has about it.
        policy_sees_observation: they get the observation besides; a hypernetwork's always do.
        action_queries: of that matrix.
    """

    inputs: list[str] = field(default_factory=lambda: list(INPUTS))
    encoder_hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)
    policy_hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)
    policy_head: str = one_of("layers", "hypernetwork", "action_queries", default="layers")
    policy_sees_observation: bool = False
    action_queries: ActionQuerySettings = field(default_factory=ActionQuerySettings)
