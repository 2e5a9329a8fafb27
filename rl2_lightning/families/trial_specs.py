"""The specs of trials as an environment of TorchRL."""

from typing import Any, NamedTuple

import torch
from torchrl.data import Binary, Categorical, Composite, MultiCategorical, TensorSpec, Unbounded

from rl2_lightning import keys
from rl2_lightning.families.task_env import TaskEnv


class TrialSpecs(NamedTuple):
    """The specs of B trials.

    Attributes:
        observation: of the entries of a step before an action.
        action: of the actions.
        reward: of the rewards, `[B, 1]`.
        done: of the ends of trials, `[B, 1]`.
    """

    observation: Composite
    action: TensorSpec
    reward: TensorSpec
    done: Composite


def trial_specs(task_env: TaskEnv, *, shows_position: bool) -> TrialSpecs:
    """The specs of trials of the tasks of an environment.

    Args:
        task_env: the environment.
        shows_position: whether the agent's position is an entry of each step.
    """
    batch = task_env.batch_size
    flag = Binary(1, shape=(*batch, 1), dtype=torch.bool)
    scalar = Unbounded((*batch, 1))
    shown = task_env.observation_spec[keys.OBSERVATION]
    entries = {
        keys.OBSERVATION: shown.clone(),
        keys.PREVIOUS_OBSERVATION: _unbounded(shown),
        keys.PREVIOUS_ACTION: _previous_action(task_env),
        keys.PREVIOUS_REWARD: scalar,
        keys.PREVIOUS_DONE: scalar.clone(),
        keys.EPISODE: Unbounded((*batch, 1), dtype=torch.int64),
        keys.ELAPSED: scalar.clone(),
        keys.IS_INIT: flag,
        keys.MASK: flag.clone(),
        keys.EPISODE_ENDED: flag.clone(),
    }
    if shows_position:
        entries[keys.POSITION] = Unbounded((*batch, 2))
    done_keys = (keys.TRIAL_DONE, keys.TRIAL_TERMINATED)
    return TrialSpecs(
        Composite(entries, shape=batch),
        task_env.action_spec.clone(),
        scalar.clone(),
        Composite({key: flag.clone() for key in done_keys}, shape=batch),
    )


def placeholder_of(spec: TensorSpec) -> Any:
    """What stands for an action of an unbatched spec where there was none; see `no_action`."""
    if isinstance(spec, MultiCategorical):
        return [int(one.n) for one in spec.space]
    if isinstance(spec, Categorical):
        return int(spec.space.n)
    return ((spec.space.low + spec.space.high) / 2).tolist()


def _previous_action(task_env: TaskEnv) -> TensorSpec:
    """The spec of previous actions, which have one more value for none if they are discrete."""
    action = task_env.action_spec
    # `MultiCategorical` is a `Categorical`, too.
    if isinstance(action, MultiCategorical):
        numbers = [n + 1 for n in placeholder_of(task_env.action_spec_unbatched)]
        return MultiCategorical(numbers).expand(action.shape)
    if isinstance(action, Categorical):
        return Categorical(action.space.n + 1, shape=task_env.batch_size)
    return Unbounded(action.shape)


def _unbounded(spec: Any) -> Any:
    """The spec without bounds, for an observation or zeros in its place."""
    if isinstance(spec, Composite):
        return Composite({name: _unbounded(one) for name, one in spec.items()}, shape=spec.shape)
    return Unbounded(spec.shape, dtype=spec.dtype)
