"""Measure the inputs of an iteration, over all ranks."""

from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.agents.encoders.normaliser import InputNormaliser, RunningSpread
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
        if not isinstance(one, InputNormaliser):
            continue
        for key, spread in one.observations.items():
            name = key.removeprefix("of_")
            shown = steps.get((keys.OBSERVATION, name) if name else keys.OBSERVATION)
            _measure(spread, shown, plays)
        if one.reward is not None:
            _measure(one.reward, steps.get(keys.PREVIOUS_REWARD), earns)


def _measure(spread: nn.Module, shown: Tensor, counts: Tensor) -> None:
    assert isinstance(spread, RunningSpread)
    count, sums = spread.deviations(shown.reshape(len(counts), -1), counts)
    spread.measure(sum_over_ranks(count), sum_over_ranks(sums))
