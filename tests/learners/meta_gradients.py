"""Meta-gradient learners without a trainer, and finite differences of what they compute."""

from copy import deepcopy
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.credit import clear_idle_steps
from rl2_lightning.learners.meta_gradient import MetaGradient
from rl2_lightning.learners.windows import window_features
from tests.builders import as_minibatch, collect, make_agent, make_learner, starts_of

ALL = ["gamma", "gae_lambda", "entropy_coefficient", "value_coefficient", "learning_rate"]
RATE = 0.02


class Optimizer:
    """Stands in for Lightning's wrapper of an optimiser."""

    def __init__(self, learner: MetaGradient, optimizer: torch.optim.Optimizer) -> None:
        self.learner, self.optimizer = learner, optimizer

    def step(self) -> None:
        self.learner.on_before_optimizer_step(self.optimizer)
        self.optimizer.step()


def without_trainer(learner: MetaGradient, clip: float | None = None) -> MetaGradient:
    """Let a learner update without a trainer."""
    learner.trainer = SimpleNamespace(precision_plugin=SimpleNamespace(scaler=None))
    learner.gradient_clip_val = clip
    found = [Optimizer(learner, one) for one in learner.configure_optimizers()]
    learner.optimizers = lambda: found
    return learner


def make_meta_learner(
    env: TrialEnv, *, memory: str = "gru", clip: float | None = None, agent: Any = None, **changes
) -> MetaGradient:
    given = {
        "learning_rate": RATE,
        "adam_epsilon": 1e-4,  # with less, rounding errors of tiny gradients would be amplified
        "meta_parameters": ALL,
        "reference_gamma": 0.97,
        "reference_gae_lambda": 0.95,
        "entropy_coefficient": 0.1,
    }
    agent = make_agent(env, memory, **(agent or {}))
    learner = make_learner(agent, env, "meta_gradient", **(given | changes))
    return without_trainer(learner, clip)


def compute_in_float64(learner: MetaGradient, monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute in float64, also where results are converted to float32."""
    learner.double()
    monkeypatch.setattr(Tensor, "float", Tensor.double)
    # States of memories are created in the default dtype.
    torch.set_default_dtype(torch.float64)


def in_float64(trials: TensorDictBase) -> TensorDictBase:
    return trials.apply(lambda entry: entry.double() if entry.is_floating_point() else entry)


class Problem:
    """An inner update on some trials, and the outer objective on others, in float64.

    Before it the learner has made updates, so that its optimiser has a state.
    """

    def __init__(
        self,
        learner: MetaGradient,
        env: TrialEnv,
        monkeypatch: pytest.MonkeyPatch,
        window: int | None = None,
    ) -> None:
        self.learner, self.env, self.window = learner, env, window
        self.starts = starts_of(env, window)
        trials = [collect(env, learner, window=window, seed=seed) for seed in range(3, 8)]
        compute_in_float64(learner, monkeypatch)
        *earlier, inner, outer = (in_float64(one) for one in trials)
        for one in earlier:
            prepared = learner.prepare(one, self.starts)
            windows = as_minibatch(learner, env, prepared, window=window)
            learner.update(*learner.inner_derivatives(windows))
        with torch.no_grad():
            inner = learner.critic.add_values(inner, self.starts)
            self.values = learner.values_of(inner[keys.STEPS])
        self.trials = clear_idle_steps(inner, self.starts)
        # The scale of the value targets counts as given.
        learner.value_scale.update = lambda targets: None
        prepared = learner.prepare(outer, self.starts)
        self.outer = as_minibatch(learner, env, prepared, window=window)
        self.state = deepcopy(learner.optimizers()[0].optimizer.state_dict())

    def windows(self, learner: MetaGradient) -> TensorDictBase:
        """The windows of the inner update, with the credit of a learner."""
        trials = self.trials.copy()
        steps = trials[keys.STEPS].copy()
        learner.add_credit(steps, self.values)
        return as_minibatch(learner, self.env, trials.set(keys.STEPS, steps), window=self.window)

    def meta_gradient(self) -> Tensor:
        """What the learner computes, `[K]`."""
        learner = deepcopy(self.learner)
        without_trainer(learner, self.learner.gradient_clip_val)
        learner.optimizers()[0].optimizer.load_state_dict(deepcopy(self.state))
        learner.trace.zero_()
        learner.update(*learner.inner_derivatives(self.windows(learner)))
        return learner.meta_gradient(self.outer)

    def finite_difference(self, name: str, width: float) -> float:
        """The same by two updates and two objectives, for one meta-parameter."""
        high, low = self._reached(name, width), self._reached(name, -width)
        return (high - low).item() / (2 * width)

    @torch.no_grad()
    def _reached(self, name: str, shift: float) -> Tensor:
        """The outer objective after an update with another meta-parameter."""
        learner = deepcopy(self.learner)
        learner.meta.free[name] += shift
        learner.show_discounts(*learner.discounts)
        with torch.enable_grad():
            loss = learner.window_loss(self.windows(learner))
            loss.backward()
        if learner.gradient_clip_val:
            nn.utils.clip_grad_norm_(learner.inner_parameters, learner.gradient_clip_val)
        optimizer = torch.optim.Adam(learner.inner_parameters)
        optimizer.load_state_dict(deepcopy(self.state))
        optimizer.param_groups[0]["lr"] = RATE * float(learner.meta.value("learning_rate"))
        optimizer.step()
        # The outer objective's own discounts, and what the policy sees of them, do not change.
        learner.show_discounts(*self.learner.discounts)
        window = self.outer[keys.WINDOW]
        mask = window[keys.MASK].squeeze(-1)
        policy = learner.agent.policy(window_features(learner.agent, self.outer))
        gains = policy.log_prob(window[keys.ACTION]) * window[keys.REFERENCE_ADVANTAGE].squeeze(-1)
        return gains[mask].sum() / mask.sum()
