"""Measure the inputs of an iteration, over all ranks."""

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.belief import BeliefMemory
from rl2_lightning.agents.encoders.normaliser import InputNormaliser, RunningSpread
from rl2_lightning.agents.heads import ShowingMemory
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.learners.critic import MAX_NUMBERS, Critic
from rl2_lightning.learners.ranks import sum_over_ranks


def update_spreads(module: nn.Module) -> None:
    """Let the agent and the critic see inputs in the units that have been measured so far."""
    for one in module.modules():
        if isinstance(one, RunningSpread):
            one.update()


def measure_inputs(module: nn.Module, steps: TensorDictBase) -> None:
    """Measure the inputs of the trials that have been collected.

    Only sums are shared, and all ranks add the same ones.

    Args:
        module: holds the agent and the critic.
        steps: this rank's, `[B, T]`.
    """
    plays = steps.get(keys.MASK).reshape(-1)
    # The first reward of a trial has not been earned.
    earns = plays & ~steps.get(keys.IS_INIT).reshape(-1)
    for one in module.modules():
        if isinstance(one, Agent) or (isinstance(one, Critic) and one.is_separate):
            _measure_beliefs(one, steps, plays)
        if not isinstance(one, InputNormaliser):
            continue
        for key, spread in one.observations.items():
            name = key.removeprefix("of_")
            shown = steps.get((keys.OBSERVATION, name) if name else keys.OBSERVATION)
            _measure(spread, shown, plays)
        if one.reward is not None:
            _measure(one.reward, steps.get(keys.PREVIOUS_REWARD), earns)


@torch.no_grad()
def _measure_beliefs(network: Agent | Critic, steps: TensorDictBase, plays: Tensor) -> None:
    """Measure the beliefs of an agent or of a critic, if they are shown in units of their spread.

    Args:
        network: has the encoder and the memory.
        steps: `[B, T]`.
        plays: which of them count, `[B T]`, bool.
    """
    memory = network.memory
    found = (one for one in memory.modules() if isinstance(one, BeliefMemory))
    believing = next(found, None)
    if believing is None or believing.spread is None:
        return
    assert isinstance(memory, BeliefMemory | ShowingMemory)
    rows = max(1, MAX_NUMBERS // (steps.shape[1] * memory.output_size))
    shown = [
        believing.to_measure(memory.beliefs(network.encoder(inputs_of(part)).float()))
        for part in steps.split(rows)
    ]
    _measure(believing.spread, torch.cat(shown), plays)


def _measure(spread: nn.Module, shown: Tensor, counts: Tensor) -> None:
    assert isinstance(spread, RunningSpread)
    count, sums = spread.deviations(shown.reshape(len(counts), -1), counts)
    spread.measure(sum_over_ranks(count), sum_over_ranks(sums))
