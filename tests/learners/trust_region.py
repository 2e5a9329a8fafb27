"""A small TRPO learner and its parts."""

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from rl2_lightning import keys
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.surrogate import SurrogateProblem
from rl2_lightning.learners.trpo import TRPO
from rl2_lightning.learners.windows import line_up_entries, window_features
from tests.builders import (
    make_agent,
    make_learner,
    minibatch_of,
)


def learner_and_windows(
    env: TrialEnv,
    memory: str = "gru",
    *,
    window: int | None = None,
    burn_in: int = 0,
    gain: float | None = None,
    **changes: object,
) -> tuple[TRPO, TensorDictBase]:
    learner = make_learner(make_agent(env, memory, gain=gain), env, "trpo", **changes)
    return learner, minibatch_of(learner, env, window=window, burn_in=burn_in)


def problem_of(learner: TRPO, windows: TensorDictBase, coefficient: float = 0.0):
    return SurrogateProblem(learner.agent, [windows], [windows], coefficient)


def weights(module: torch.nn.Module) -> Tensor:
    return parameters_to_vector(module.parameters()).detach().clone()


def direction_of(learner: TRPO, seed: int = 3) -> Tensor:
    torch.manual_seed(seed)
    found = torch.randn_like(weights(learner.agent))
    return found / found.norm()


def features_of(learner: TRPO, windows: TensorDictBase) -> Tensor:
    """The agent's features in the steps that count."""
    features = window_features(learner.agent, windows)
    return line_up_entries(windows[keys.WINDOW], {keys.FEATURES: features})[keys.FEATURES]
