"""An agent as a TensorDict module, for TorchRL."""

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.data import Composite, Unbounded
from torchrl.envs import TensorDictPrimer

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.windows import as_tensordict, inputs_of, state_of
from rl2_lightning.inputs import Inputs


class AgentPolicy(TensorDictModuleBase):
    """Acts in any TorchRL loop over a `TrialEnv`, such as `env.rollout` or TorchRL's collectors.

    The memory's state is carried in the TensorDict as `memory_state`, and reset where `is_init`
    marks the start of a trial. The environment needs the transform `TransformedEnv(env,
    policy.make_tensordict_primer())`, or the state is lost between steps. TorchRL's collectors add
    it themselves with `auto_register_policy_transforms=True`.

    Args:
        agent: the agent that acts.
        generator: generator of the actions, on the agent's device; None for PyTorch's global one.
        greedy: whether to take the most likely actions instead of sampling.
    """

    def __init__(
        self,
        agent: Agent,
        generator: torch.Generator | None = None,
        *,
        greedy: bool = False,
    ) -> None:
        super().__init__()
        self.agent = agent
        self.in_keys = [*Inputs._fields, keys.IS_INIT, keys.MEMORY_STATE]
        self.out_keys = [keys.ACTION, keys.ACTION_LOG_PROB, (keys.NEXT, keys.MEMORY_STATE)]
        self._generator = generator
        self._greedy = greedy

    def make_tensordict_primer(self) -> TensorDictPrimer:
        """The TorchRL transform that adds the memory's state to an environment's resets."""
        specs = {
            str(number): Unbounded(tensor.shape[1:], dtype=tensor.dtype)
            for number, tensor in enumerate(self.agent.initial_state(1))
        }
        return TensorDictPrimer({keys.MEMORY_STATE: Composite(specs)}, expand_specs=True)

    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Write the action, its log-probability and the memory's next state of one step `[B]`."""
        before = state_of(tensordict.get(keys.MEMORY_STATE))
        state = self.agent.memory.restart(before, tensordict.get(keys.IS_INIT))
        action, log_probability, following, _ = self.agent.act(
            inputs_of(tensordict), state, greedy=self._greedy, generator=self._generator
        )
        num = [len(tensordict)]
        tensordict.set((keys.NEXT, keys.MEMORY_STATE), as_tensordict(following, num))
        return tensordict.set(keys.ACTION, action).set(keys.ACTION_LOG_PROB, log_probability)
