"""TorchRL's collector over trials."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from tensordict import TensorDict, TensorDictBase
from tensordict.nn import TensorDictModuleBase
from torchrl.collectors import Collector
from torchrl.envs import TransformedEnv
from torchrl.envs.utils import ExplorationType, set_exploration_type
from torchrl.modules.utils import get_primers_from_module

from rl2_lightning import keys
from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.envs.trial_env import TrialEnv
from rl2_lightning.errors import NonFiniteLossError

TaskEnvFactory = Callable[..., TaskEnv]


class PrimedTrialEnv(TransformedEnv):
    """A trial environment whose resets also empty the policy's memory.

    Trials are not restarted one by one: a trial that ended idles until the next reset of all.

    Args:
        env: the trials.
        policy: the policy whose memory is primed.
    """

    def __init__(self, env: TrialEnv, policy: TensorDictModuleBase) -> None:
        super().__init__(env, get_primers_from_module(policy))

    def _reset(self, tensordict: TensorDictBase | None = None, **options: Any) -> TensorDictBase:
        # Of a reset's input TorchRL hands on what the specs name: tasks have to go another way.
        tasks = None if tensordict is None else tensordict.get(keys.TASK, None)
        return super()._reset(tensordict, tasks=tasks, **options)

    def maybe_reset(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Leaves the finished trials idle."""
        return tensordict


def make_collector(env: PrimedTrialEnv, policy: TensorDictModuleBase, num_steps: int) -> Collector:
    """A collector whose every rollout is one batch of whole trials `[B, T]`.

    Args:
        env: B trials.
        policy: the agent; acted on as it is, without a copy.
        num_steps: T, env steps of a rollout.
    """
    return Collector(
        env,
        policy,
        frames_per_batch=env.batch_size.numel() * num_steps,
        device=env.device,
        reset_at_each_iter=True,
        exploration_type=ExplorationType.RANDOM,
        auto_register_policy_transforms=True,
        # Whole trials make trajectory ids and stored next observations needless.
        track_traj_ids=False,
        compact_obs=True,
        use_buffers=False,
        trust_policy=True,
    )


@contextmanager
def finite_policy() -> Iterator[None]:
    """Tells in words of its own when actions can no longer be drawn.

    Raises:
        NonFiniteLossError: the policy's probabilities are not finite.
    """
    try:
        yield
    except RuntimeError as error:
        # What `torch.multinomial` says; to look at the probabilities would wait for the device.
        if "probability tensor contains" not in str(error):
            raise
        raise NonFiniteLossError(
            "the policy's probabilities are not finite: see that observations and rewards are, "
            "or lower algorithm.learning_rate"
        ) from error


@torch.no_grad()
def play_trials(
    env: PrimedTrialEnv,
    policy: TensorDictModuleBase,
    tasks: TensorDictBase,
    exploration_type: ExplorationType,
) -> TensorDictBase:
    """Plays one trial of each of the given tasks.

    Args:
        env: B trials.
        policy: the agent.
        tasks: task parameters, `[B]`.
        exploration_type: whether the actions are sampled or the most likely ones.

    Returns:
        Rewards, episodes and mask of the trials, what the family records, and if the environment
        shows positions also the observation and where each step led to, `[B, T]`.
    """
    trial_env = env.base_env
    read = [keys.REWARD, keys.EPISODE, keys.MASK, *trial_env.task_env.recorded_keys]
    if trial_env.shows_position:
        read += [keys.OBSERVATION, keys.REACHED]
    # The states of the memory would fill the store many times over: keep what a curve reads.
    kept = []
    with set_exploration_type(exploration_type):
        state = env.reset(TensorDict({keys.TASK: tasks}, batch_size=env.batch_size))
        for _ in range(trial_env.max_steps):
            step, state = env.step_and_maybe_reset(policy(state))
            kept.append(step.select(*read))
    return torch.stack(kept, dim=1)
