"""The specification of an agent, which can be stored as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rl2_lightning.agents.action_queries import ActionMemory, ActionScorer
from rl2_lightning.agents.belief import BeliefMemory
from rl2_lightning.agents.encoders.encoder import Encoder
from rl2_lightning.agents.heads import HyperLayers, ShowingMemory
from rl2_lightning.agents.memories.memory import Memory, find_memory
from rl2_lightning.agents.policies import CategoricalPolicy, Policy, make_policy, policy_layers
from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.agents.spaces import (
    Actions,
    Box,
    Discrete,
    Observations,
    actions_from_plain,
    observations_from_plain,
    to_plain,
)
from rl2_lightning.errors import UserError
from rl2_lightning.settings import stored_settings


@dataclass(frozen=True)
class AgentSpec:
    """Everything that determines an agent except its weights.

    Attributes:
        observations: space of its observations.
        actions: space of its actions.
        settings: its inputs and layers.
        memory_class: class of its memory.
        memory_settings: fields of the memory's settings.
    """

    observations: Observations
    actions: Actions
    settings: AgentSettings
    memory_class: type[Memory]
    memory_settings: Mapping[str, Any]

    def make_encoder(self) -> Encoder:
        """An encoder of the inputs, with the fields that memory and policy need passed on."""
        inputs: list[str] = list(self.settings.inputs)
        passed_on: list[str] = []
        if self.settings.policy_head == "action_queries":
            # With keys, actions may only be distinguished by these.
            inputs = [name for name in inputs if name != "previous_action"]
            passed_on = ["previous_action"]
            if self.settings.action_queries.of_observation:
                passed_on += ["previous_observation", "observation"]
        if self._shows_observation:
            passed_on.append("observation")
        settings = self.settings
        return Encoder(
            self.observations,
            self.actions,
            inputs,
            settings.encoder_hidden_sizes,
            passed_on,
            normalised=settings.normalised,
            discount_embedding=settings.discount_embedding,
        )

    def make_memory(self, encoder: Encoder) -> Memory:
        """A memory for the encodings of an encoder.

        Raises:
            UserError: there is no such memory.
        """

        def make(input_size: int) -> Memory:
            return self.memory_class(input_size, **self.memory_settings)

        sizes = encoder.sizes[:-1] if self._shows_observation else encoder.sizes
        belief = self.settings.belief
        if self.settings.policy_head == "action_queries":
            if belief.form != "none":
                raise UserError(
                    f"agent.belief.form={belief.form} with agent.policy_head=action_queries: the "
                    "reads of single actions bypass the belief; use agent.policy_head=layers"
                )
            memory: Memory = ActionMemory(sizes, make, self.settings)
        else:
            memory = make(sum(sizes))
            if belief.form != "none":
                memory = BeliefMemory(memory, belief)
        return ShowingMemory(memory, encoder.sizes[-1]) if self._shows_observation else memory

    def make_policy(self, memory: Memory) -> Policy:
        """A policy on the features of a memory.

        Raises:
            UserError: there is no such policy for the actions.
        """
        settings, hidden_sizes = self.settings, self.settings.policy_hidden_sizes
        if settings.policy_head == "action_queries":
            if not isinstance(self.actions, Discrete):
                kind = "continuous" if isinstance(self.actions, Box) else "several discrete"
                raise UserError(
                    f"agent.policy_head=action_queries with {kind} actions: use a single discrete "
                    "action, or agent.policy_head=layers"
                )
            value_size = settings.action_queries.value_size
            return CategoricalPolicy(ActionScorer(memory.summary_size, value_size, hidden_sizes))
        if settings.policy_head == "hypernetwork":
            assert isinstance(memory, ShowingMemory)
            shown, remembered = memory.observation_size, memory.inner.output_size
            make_layers = partial(HyperLayers, shown, remembered, hidden_sizes)
            return make_policy(self.actions, make_layers)
        return make_policy(self.actions, policy_layers(memory.output_size, hidden_sizes))

    @property
    def _shows_observation(self) -> bool:
        """Whether the policy gets the observation directly."""
        settings = self.settings
        return settings.policy_sees_observation or settings.policy_head == "hypernetwork"

    def to_plain(self) -> dict[str, Any]:
        """The spec as numbers, strings, lists and dictionaries, for a checkpoint."""
        return {
            "observations": to_plain(self.observations),
            "actions": to_plain(self.actions),
            "agent": asdict(self.settings),
            "memory": {
                "kind": self.memory_class.kind(),
                "settings": dict(self.memory_settings),
            },
        }

    @classmethod
    def from_plain(cls, data: Any) -> AgentSpec:
        """Read the output of `to_plain`; nothing in it is imported or called.

        Raises:
            UserError: the data is something else, or its memory is unknown.
        """
        parts = ("observations", "actions", "agent", "memory")
        if not isinstance(data, Mapping) or not all(
            isinstance(data.get(p), Mapping) for p in parts
        ):
            raise UserError("the checkpoint has no agent: it is not from this program")
        memory_class = find_memory(data["memory"].get("kind"))
        memory = data["memory"].get("settings")
        if not isinstance(memory, Mapping) or set(data["memory"]) != {"kind", "settings"}:
            raise UserError("the checkpoint has no memory: it is not from this program")
        return cls(
            observations_from_plain(data["observations"]),
            actions_from_plain(data["actions"]),
            stored_settings(AgentSettings, data["agent"], "agent", "the checkpoint"),
            memory_class,
            asdict(stored_settings(memory_class.Settings, memory, "memory", "the checkpoint")),
        )
