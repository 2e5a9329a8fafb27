"""One step of a batch of trials, as plain tensors."""

from typing import NamedTuple

from torch import Tensor

from rl2_lightning.inputs import Inputs, Observation


class TrialStep(NamedTuple):
    """Where B trials stand before a step.

    Attributes:
        inputs: what the player is shown.
        episode: index of the episode in its trial, `[B, 1]`, int64.
        playing: false where the trial has ended, `[B, 1]`, bool.
    """

    inputs: Inputs
    episode: Tensor
    playing: Tensor


class StepResult(NamedTuple):
    """What B trials answer to a step; nothing is earned where a trial had ended.

    Attributes:
        following: where they stand after it.
        reward: what is learnt from, the drawn reward or its mean, `[B, 1]`, float32.
        episode_done: end of an episode, `[B, 1]`, bool.
        done: end of the trial, `[B, 1]`, bool.
        last_observation: where the step led to, `[B, *observation]`: at the end of an episode its
            true last observation, and not the first of the next one.
        position: where the step led to on the map, `[B, 2]`; None unless it is watched.
    """

    following: TrialStep
    reward: Tensor
    episode_done: Tensor
    done: Tensor
    last_observation: Observation
    position: Tensor | None
