"""Windows as a replay source returns them, for learners without a run."""

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.data.windows import cut_windows
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.learner import Learner
from tests.builders import collect, starts_of


class Told:
    """Stands in for a source, and keeps the priorities that it gets."""

    def feedback(self, indices: Tensor, priorities: Tensor) -> None:
        self.indices, self.priorities = indices, priorities


def replayed(
    env: TrialEnv, learner: Learner, *, window: int | None = None, burn_in: int = 0
) -> TensorDictBase:
    """All windows of some trials, with weights of 1."""
    trials = collect(env, learner, window=window, burn_in=burn_in)
    prepared = learner.prepare(trials, starts_of(env, window, burn_in))
    return as_replayed(env, learner, prepared, window=window, burn_in=burn_in)


def as_replayed(
    env: TrialEnv,
    learner: Learner,
    prepared: TensorDictBase,
    *,
    window: int | None = None,
    burn_in: int = 0,
) -> TensorDictBase:
    """All windows of prepared trials, with weights of 1."""
    lengths = (env.max_steps, window or env.max_steps, burn_in)
    kept = [keys.TASK] if learner.reads_tasks else []
    windows = cut_windows(prepared, *lengths, kept, learner.num_following)
    windows.set(keys.INDEX, torch.arange(len(windows)))
    return windows.set(keys.WEIGHT, torch.ones(len(windows)))
