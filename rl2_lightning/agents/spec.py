"""What an agent is built from, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from rl2_lightning.agents.action_queries import ActionMemory, ActionScorer
from rl2_lightning.agents.encoders.encoder import Encoder
from rl2_lightning.agents.heads import HyperLayers, ShowingMemory
from rl2_lightning.agents.memories.memory import Memory, find_memory
from rl2_lightning.agents.policies import CategoricalPolicy, Policy, make_policy, policy_layers
from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.agents.spaces import (
    Actions,
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
    """All that an agent is built from, but its weights.

    Attributes:
        observations: what it is shown.
        actions: which actions it takes.
        settings: its inputs and layers.
        memory_class: kind of its memory.
        memory_settings: fields of the memory's settings.
    """

    observations: Observations
    actions: Actions
    settings: AgentSettings
    memory_class: type[Memory]
    memory_settings: Mapping[str, Any]

    def make_encoder(self) -> Encoder:
        """An encoder of the inputs; after the encoding it passes on what memory and policy need."""
        inputs: list[str] = list(self.settings.inputs)
        passed_on: list[str] = []
        if self.settings.policy_head == "action_queries":
            # Where actions have keys, nothing but these tells one from another.
            inputs = [name for name in inputs if name != "previous_action"]
            passed_on = ["previous_action"]
            if self.settings.action_queries.of_observation:
                passed_on += ["previous_observation", "observation"]
        if self._shows_observation:
            passed_on.append("observation")
        layers = self.settings.encoder_hidden_sizes
        return Encoder(self.observations, self.actions, inputs, layers, passed_on)

    def make_memory(self, encoder: Encoder) -> Memory:
        """A memory of the encodings that an encoder gives."""

        def make(input_size: int) -> Memory:
            return self.memory_class(input_size, **self.memory_settings)

        sizes = encoder.sizes[:-1] if self._shows_observation else encoder.sizes
        if self.settings.policy_head == "action_queries":
            memory: Memory = ActionMemory(sizes, make, self.settings)
        else:
            memory = make(sum(sizes))
        return ShowingMemory(memory, encoder.sizes[-1]) if self._shows_observation else memory

    def make_policy(self, memory: Memory) -> Policy:
        """A policy on the features of a memory.

        Raises:
            UserError: there is none for such actions.
        """
        settings, hidden_sizes = self.settings, self.settings.policy_hidden_sizes
        if settings.policy_head == "action_queries":
            if not isinstance(self.actions, Discrete):
                raise UserError(
                    "agent.policy_head=action_queries with actions that are numbers: use discrete "
                    "actions, or agent.policy_head=layers"
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
        """Whether the policy gets the observation again."""
        settings = self.settings
        return settings.policy_sees_observation or settings.policy_head == "hypernetwork"

    def to_plain(self) -> dict[str, Any]:
        """The spec as numbers, words, lists and dictionaries, for a checkpoint."""
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
        """Reads what `to_plain` has written; nothing in it is imported or called.

        Raises:
            UserError: it is something else, or its memory is not known here.
        """
        parts = ("observations", "actions", "agent", "memory")
        if not isinstance(data, Mapping) or not all(
            isinstance(data.get(p), Mapping) for p in parts
        ):
            raise UserError("the checkpoint tells no agent: it is of another program")
        memory_class = find_memory(data["memory"].get("kind"))
        memory = data["memory"].get("settings")
        if not isinstance(memory, Mapping) or set(data["memory"]) != {"kind", "settings"}:
            raise UserError("the checkpoint tells no memory: it is of another program")
        return cls(
            observations_from_plain(data["observations"]),
            actions_from_plain(data["actions"]),
            stored_settings(AgentSettings, data["agent"], "agent", "the checkpoint"),
            memory_class,
            asdict(stored_settings(memory_class.Settings, memory, "memory", "the checkpoint")),
        )
