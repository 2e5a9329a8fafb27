"""An agent's step as a function of named tensors, for programs in other forms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from rl2_lightning.agents.spaces import Box, Observations
from rl2_lightning.inputs import Observation, select_rows

if TYPE_CHECKING:
    from rl2_lightning.agents.agent import Agent

Named = dict[str, Tensor]


class StepProgram(nn.Module):
    """An agent's step as a function of named tensors of B rows.

    What it remembers is an input and an output. The inputs are

    - `observation`, `[B, *observation]`; if there are several, `observation_<name>` each;
    - `begins`, where a trial begins, `[B]`, bool: there the inputs that follow are ignored;
    - those of the following that the agent sees: `previous_action`, `[B]`, int64, or `[B, A]`,
      int64 or float32; `previous_reward`, `[B]`, float32; `previous_done`, `[B]`, bool;
      `previous_observation`, like `observation`;
    - `state_0`, `state_1`, ..., what the memory holds, `[B, ...]`.

    The outputs are

    - `action`, the most likely one, `[B]`, int64, or `[B, A]`, int64 or float32;
    - the parameters of the distribution over actions, to sample from: `logits`, or `loc` and
      `scale`, those of a normal distribution before tanh and bounds;
    - `next_state_0`, ..., the `state_0`, ... of the next step.

    Args:
        agent: the agent.
    """

    def __init__(self, agent: Agent) -> None:
        super().__init__()
        self.agent = agent
        self.num_states = len(agent.initial_state(1))

    def forward(self, inputs: Named) -> Named:
        """One step."""
        agent, begins = self.agent, inputs["begins"].unsqueeze(1)
        observation = self._observation(inputs, "observation")
        first = agent.first_inputs(observation)
        # Where the agent does not look, the first inputs serve for all steps.
        given: dict[str, Any] = {
            name: _selected(begins, getattr(first, name), self._given(inputs, name))
            for name in agent.encoder.fields
            if name != "observation"
        }
        state = tuple(inputs[f"state_{number}"] for number in range(self.num_states))
        encoding = agent.encoder(first._replace(**given)).float()
        features, state = agent.memory.step(encoding, agent.memory.restart(state, begins))
        action, _ = agent.policy.act(features, greedy=True, generator=None)
        parameters = zip(
            agent.policy.parameter_names, agent.policy.parameters_of(features), strict=True
        )
        wanted = {name: one for name, one in parameters if name in ("logits", "loc", "scale")}
        reached = {f"next_state_{number}": one for number, one in enumerate(state)}
        return {"action": action, **wanted, **reached}

    def _given(self, inputs: Named, name: str) -> Observation:
        if name == "previous_observation":
            return self._observation(inputs, name)
        if name == "previous_action":
            return inputs[name]
        return inputs[name].float().unsqueeze(1)

    def _observation(self, inputs: Named, name: str) -> Observation:
        space = self.agent.spec.observations
        if isinstance(space, Box):
            return inputs[name]
        return {part: inputs[f"{name}_{part}"] for part in space}

    def example(self, num_rows: int, generator: torch.Generator) -> Named:
        """Random inputs, with an empty memory."""
        agent, spec = self.agent, self.agent.spec
        shown = {
            name: _random(box, num_rows, generator)
            for name, box in _named(spec.observations, "observation").items()
        }
        first = agent.first_inputs(self._observation(shown, "observation"))
        inputs = shown | {"begins": torch.zeros(num_rows, dtype=torch.bool)}
        inputs["begins"][0] = True
        if "previous_action" in agent.encoder.fields:
            inputs["previous_action"] = first.previous_action.clone()
        if "previous_reward" in agent.encoder.fields:
            inputs["previous_reward"] = torch.randn(num_rows, generator=generator)
        if "previous_done" in agent.encoder.fields:
            inputs["previous_done"] = torch.rand(num_rows, generator=generator) < 0.5
        if "previous_observation" in agent.encoder.fields:
            inputs |= {
                name: _random(box, num_rows, generator)
                for name, box in _named(spec.observations, "previous_observation").items()
            }
        state = agent.initial_state(num_rows)
        return inputs | {f"state_{number}": one.clone() for number, one in enumerate(state)}


def _selected(rows: Tensor, new: Observation, old: Observation) -> Observation:
    """See `inputs.select_rows`."""
    if isinstance(new, Tensor):
        assert isinstance(old, Tensor)
        return select_rows(rows, new, old)
    assert isinstance(old, dict)
    return {name: select_rows(rows, new[name], old[name]) for name in new}


def _named(space: Observations, name: str) -> dict[str, Box]:
    if isinstance(space, Box):
        return {name: space}
    return {f"{name}_{part}": box for part, box in space.items()}


def _random(box: Box, num_rows: int, generator: torch.Generator) -> Tensor:
    shape = (num_rows, *box.shape)
    if box.dtype == "uint8":
        return torch.randint(256, shape, dtype=torch.uint8, generator=generator)
    return torch.randn(shape, generator=generator)
