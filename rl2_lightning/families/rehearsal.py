"""Check a family against its specs in the first step of a trial."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.inputs import Observation


def rehearse(task_env: TaskEnv) -> None:
    """Play one step of new tasks, and compare the results with the family's specs.

    Args:
        task_env: an environment with at least two tasks, so that `[B]` in place of `[B, 1]` is
            detected; left in the middle of an episode.

    Raises:
        UserError: a method fails, or a tensor has another shape or dtype, or is not finite.
    """
    num_tasks = task_env.batch_size.numel()
    everywhere = torch.ones(num_tasks, 1, dtype=torch.bool, device=task_env.device)
    name = type(task_env).__name__
    with contract_of(f"{name}.sample_tasks"):
        tasks = task_env.sample_training_tasks(num_tasks)
        _require_tasks(f"{name}.sample_tasks", tasks, num_tasks)
        task_env.set_tasks(tasks, everywhere)
    spec = task_env.observation_spec[keys.OBSERVATION]
    with contract_of(f"{name}.begin_episodes"):
        shown = task_env.start_episodes(everywhere)
        _compare(f"{name}.begin_episodes", "observation", shown, spec)
    action = task_env.action_spec.rand()
    with contract_of(place := f"{name}.advance"):
        observation, reward, terminated = task_env.advance(action, everywhere)
        _compare(place, "observation", observation, spec)
        _require(place, "reward", reward, (num_tasks, 1), torch.float32)
        _require(place, "end of the episode", terminated, (num_tasks, 1), torch.bool)
    with contract_of(place := f"{name}.expected_reward"):
        expected = task_env.expected_reward(action)
        if expected is not None:
            _require(place, "mean reward", expected, (num_tasks, 1), torch.float32)


@contextmanager
def contract_of(place: str) -> Iterator[None]:
    """Name a method of a family in the errors that it raises.

    Args:
        place: the class and the method.

    Raises:
        UserError: an error other than a lack of memory was raised within the context.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # a family can raise any exception
        if isinstance(error, RuntimeError) and "allocat" in str(error):
            raise
        reason = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{place} does not do what TaskEnv says: {reason}; fix the environment, with the "
            "traceback that HYDRA_FULL_ERROR=1 shows"
        ) from error


def _require_tasks(place: str, tasks: TensorDictBase, num_tasks: int) -> None:
    if tasks.batch_size != torch.Size([num_tasks]):
        raise UserError(
            f"{place} returns a batch of {list(tasks.batch_size)} for {num_tasks} "
            f"tasks: return a TensorDict of batch size [{num_tasks}]"
        )
    for key, parameter in tasks.flatten_keys().items():
        if not parameter.isfinite().all():
            raise UserError(f"{place} returns a non-finite {key}: fix the environment")


def _compare(place: str, what: str, entry: Observation, spec: Any) -> None:
    """Compare an observation, or each of several, with its spec."""
    if isinstance(entry, Tensor):
        _require(place, what, entry, tuple(spec.shape), spec.dtype)
        return
    names = set(spec.keys())
    if not isinstance(entry, dict) or set(entry) != names:
        given = ", ".join(map(str, entry)) if isinstance(entry, dict) else type(entry).__name__
        raise UserError(
            f"{place} returns the observation {given}, but observation_spec has "
            f"{', '.join(sorted(names))}: return those"
        )
    for name in names:
        _compare(place, f"{what} {name}", entry[name], spec[name])


def _require(place: str, what: str, entry: Any, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    if not isinstance(entry, Tensor):
        raise UserError(f"{place} returns the {what} as {type(entry).__name__}: return a tensor")
    if tuple(entry.shape) != shape or entry.dtype != dtype:
        raise UserError(
            f"{place} returns the {what} as {list(entry.shape)}, {_name(entry.dtype)}, for "
            f"{shape[0]} tasks: return {list(shape)}, {_name(dtype)}"
        )
    if entry.is_floating_point() and not entry.isfinite().all():
        raise UserError(f"{place} returns a non-finite {what}: fix the environment")


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
