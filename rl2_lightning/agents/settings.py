"""Settings of an agent; light to import."""

from __future__ import annotations

from dataclasses import dataclass, field

from rl2_lightning.settings import POSITIVE, Settings, between, one_of

INPUTS = ("observation", "previous_action", "previous_reward", "previous_done")


@dataclass
class ActionQuerySettings(Settings):
    """Settings of the matrix that is queried once for each action.

    Attributes:
        keys: "drawn" for fixed orthogonal keys, with which no weight depends on the number of
            actions; or "learned" for one learnt key per action, initialised to the drawn ones.
        of_observation: whether a key is that of an action in an observation: the outer product of
            both keys.
        key_size: width of the key of an action.
        observation_key_size: width of the key of an observation, a linear function of it; at least
            the number of one-hot observations, or their keys are not orthogonal.
        value_size: width of the value stored at it.
    """

    keys: str = one_of("drawn", "learned", default="drawn")
    of_observation: bool = False
    key_size: int = between(1, default=64)
    observation_key_size: int = between(1, default=16)
    value_size: int = between(1, default=16)


@dataclass
class BeliefSettings(Settings):
    """Settings of a belief over a latent task, which then is all that the memory's features are.

    Attributes:
        form: "none" for the features of the memory itself; "moments" for the mean and the logarithm
            of the variance of a normal distribution; or "samples" for a draw from it in each step.
        size: D, how many numbers the latent task has.
        normalised: whether policy and value get it in units of its running spread. It has no unit
            of its own: the numbers of a latent may grow to ten times those of an observation.
    """

    form: str = one_of("none", "moments", "samples", default="none")
    size: int = between(1, default=5)
    normalised: bool = False


@dataclass
class AgentSettings(Settings):
    """Settings of an agent, except those of its memory.

    Attributes:
        inputs: which of the fields of `Inputs` it sees.
        encoder_hidden_sizes: widths of the layers before the memory.
        policy_hidden_sizes: widths of the layers between the memory and the policy.
        policy_head: kind of these layers: "layers", from all features to all actions;
            "hypernetwork", on the observation, with weights computed from the memory's features; or
            "action_queries", shared by all actions, which score a matrix's read for each action.
        policy_sees_observation: whether they also get the observation; a hypernetwork's always do.
        action_queries: settings of that matrix.
        belief: settings of a belief in place of the memory's features.
        discount_embedding: width of an embedding of the learner's γ and λ, which it sees beside the
            inputs; 0 for none.
        normalised: which of its inputs it sees in units of their running spread: "observation",
            which leaves images as they are, and "reward".
    """

    inputs: list[str] = field(default_factory=lambda: list(INPUTS))
    encoder_hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)
    policy_hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)
    policy_head: str = one_of("layers", "hypernetwork", "action_queries", default="layers")
    policy_sees_observation: bool = False
    action_queries: ActionQuerySettings = field(default_factory=ActionQuerySettings)
    belief: BeliefSettings = field(default_factory=BeliefSettings)
    discount_embedding: int = between(0, default=0)
    normalised: list[str] = field(default_factory=list)
