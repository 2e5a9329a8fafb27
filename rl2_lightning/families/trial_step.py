"""One step of a batch of trials, as plain tensors."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from rl2_lightning.inputs import Inputs, Observation


class TrialStep(NamedTuple):
    """The state of B trials before a step.

    Attributes:
        inputs: the player's inputs.
        episode: index of the episode in its trial, `[B, 1]`, int64.
        playing: false where the trial has ended, `[B, 1]`, bool.
    """

    inputs: Inputs
    episode: Tensor
    playing: Tensor


class StepResult(NamedTuple):
    """The result of a step in B trials; the reward is zero where a trial had ended.

    Attributes:
        following: the trials after it.
        reward: the reward to learn from, the drawn one or its mean, `[B, 1]`, float32.
        episode_done: end of an episode, `[B, 1]`, bool.
        done: end of the trial, `[B, 1]`, bool.
        last_observation: observation after the step, `[B, *observation]`: at the end of an episode
            its last observation, not the first of the next one.
        position: position after the step, `[B, 2]`; None unless it is recorded.
        info: what else the family tells of the step, `[B, 1]`, float32, by name.
    """

    following: TrialStep
    reward: Tensor
    episode_done: Tensor
    done: Tensor
    last_observation: Observation
    position: Tensor | None
    info: Mapping[str, Tensor]
