"""R2D2 with clipped PPO: recurrent replay for an actor-critic learner."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.data.replay import MixedSource
from rl2_lightning.data.replay_settings import ReplaySettings
from rl2_lightning.data.sources import TrialSource
from rl2_lightning.errors import UserError
from rl2_lightning.learners.credit import off_policy_advantages, valued_steps
from rl2_lightning.learners.learner import RunShape
from rl2_lightning.learners.pooling import SMALL
from rl2_lightning.learners.ppo import PPO, PPOSettings
from rl2_lightning.learners.ranks import (
    over_all_ranks,
    sum_over_ranks,
    world_size,
)
from rl2_lightning.learners.replaying import importance_weights, replay_on_rank
from rl2_lightning.learners.windows import (
    line_up_entries,
    window_features,
    with_following_steps,
)
from rl2_lightning.settings import between, one_of


@dataclass
class R2D2PPOSettings(PPOSettings):
    """Settings of R2D2 with clipped PPO.

    Attributes:
        replay: settings of the replay buffer.
        replay_ratio: number of replayed minibatches for each one of this iteration's windows; with
            0 it is PPO.
        off_policy_credit: advantages of replayed windows, from V-trace or from generalised
            advantage estimation with truncated importance weights.
    """

    replay: ReplaySettings = field(default_factory=ReplaySettings)
    replay_ratio: float = between(0, 1000, default=1.0)
    off_policy_credit: str = one_of("v_trace", "gae", default="v_trace")

    def check_run(self, run: RunShape) -> None:
        """See `LearnerSettings.check_run`."""
        super().check_run(run)
        if self.num_replayed:
            self.replay.check_run(run.num_trials, run.num_ranks)

    def check(self) -> None:
        """See `Settings.check`."""
        super().check()
        if self.replay_ratio and not self.num_replayed:
            fresh = self.num_epochs * self.num_minibatches
            raise UserError(
                f"learner.replay_ratio={self.replay_ratio} of {fresh} minibatches is less than one "
                f"in an iteration: set it to 0, or to at least {1 / fresh:.3g}"
            )

    @property
    def num_replayed(self) -> int:
        """The number of replayed minibatches of an iteration."""
        return round(self.replay_ratio * self.num_epochs * self.num_minibatches)


class R2D2PPO(PPO):
    """PPO that also learns from replayed windows, whose memory is warmed up on their burn-in.

    The windows of an iteration are learnt from as by PPO. Between them come windows drawn from the
    buffer by priority: the ratio of the clipped loss is to the probability that the action had when
    it was taken, and advantages are computed anew with the current values and weights.

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.
    """

    Settings = R2D2PPOSettings

    def __init__(
        self,
        agent: Agent,
        settings: R2D2PPOSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings: R2D2PPOSettings = settings
        self.num_following = int(settings.num_replayed > 0)
        self._source: TrialSource
        self._is_replayed = False
        self._replayed_steps = 1.0

    def make_source(
        self,
        collect: Callable[[], TensorDictBase],
        shuffle_seed: Callable[[int], int],
    ) -> TrialSource:
        """The windows of this iteration and replayed ones; see `Learner.make_source`."""
        fresh = super().make_source(collect, shuffle_seed)
        if not self.settings.num_replayed:
            return fresh
        replayed = replay_on_rank(
            lambda: self.fresh.windows,
            lambda draw: shuffle_seed(self.settings.num_epochs + draw),
            self.settings.replay,
            self.settings.num_replayed,
        )
        self._source = MixedSource(self.fresh, replayed)
        return self._source

    def window_loss(self, minibatch: TensorDictBase) -> Tensor:
        """The clipped loss of a minibatch of windows `[N]`, replayed if they have an `index`."""
        self._is_replayed = keys.INDEX in minibatch.keys()  # noqa: SIM118 - not a dictionary
        if self._is_replayed:
            minibatch = self.with_credit(minibatch)
        return super().window_loss(minibatch)

    @torch.no_grad()
    def with_credit(self, minibatch: TensorDictBase) -> TensorDictBase:
        """Give replayed windows `[N]` advantages and value targets of the current networks.

        It also sends the windows' new priorities to the buffer.
        """
        settings, steps = self.settings, with_following_steps(minibatch)
        values, features = self._current_values(minibatch, steps)
        window = minibatch.get(keys.WINDOW).copy()
        mask, length = window.get(keys.MASK), window.shape[1]
        log_probs = self.agent.policy(features[:, :length]).log_prob(window.get(keys.ACTION))
        log_ratios = (log_probs - window.get(keys.ACTION_LOG_PROB)).unsqueeze(-1)
        advantages, targets = off_policy_advantages(
            window,
            values,
            log_ratios.masked_fill(~mask, 0),
            gamma=settings.gamma,
            gae_lambda=settings.gae_lambda,
            is_v_trace=settings.off_policy_credit == "v_trace",
        )
        targets = self.value_scale.normalize(targets)
        current = self.value_scale.normalize(values[:, :length])
        errors = (targets - current).abs()
        self._source.feedback(
            minibatch.get(keys.INDEX),
            settings.replay.priorities(errors.squeeze(-1), mask.squeeze(-1)),
        )
        pooled = over_all_ranks(advantages[mask])
        if len(pooled) > 1:
            advantages = (advantages - pooled.mean()) / pooled.std().clamp(min=SMALL)
        num_steps = mask.sum().reshape(1).float()
        self._replayed_steps = float(sum_over_ranks(num_steps)) / world_size()
        weight = importance_weights(minibatch)[:, None, None].expand_as(advantages)
        window.set(keys.ADVANTAGE, advantages).set(keys.WEIGHT, weight)
        window.set(keys.VALUE_TARGET, targets).set(keys.STATE_VALUE, current)
        return minibatch.copy().set(keys.WINDOW, window)

    def _current_values(
        self, minibatch: TensorDictBase, steps: TensorDictBase
    ) -> tuple[Tensor, Tensor]:
        """The values of windows and the step after them, in units of the reward, and features."""
        features = window_features(self.agent, minibatch, with_following=True)
        values = self.window_values(minibatch, features, with_following=True)
        values = self.value_scale.denormalize(values.float())
        return values.masked_fill(~valued_steps(steps), 0), features

    def lined_up_steps(self, minibatch: TensorDictBase) -> TensorDictBase:
        """See `ActorCriticLearner.lined_up_steps`; replayed steps have the weight of the window."""
        steps = super().lined_up_steps(minibatch)
        if self._is_replayed:
            window = minibatch.get(keys.WINDOW)
            steps.update(line_up_entries(window, {keys.WEIGHT: window.get(keys.WEIGHT)}))
        return steps

    def mean(self, numbers: Tensor, steps: TensorDictBase) -> Tensor:
        """See `PPO.mean`; replayed steps are weighted."""
        if self._is_replayed:
            numbers = steps.get(keys.WEIGHT).squeeze(-1) * numbers
        return super().mean(numbers, steps)

    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `ActorCriticLearner.loss_of`; replayed windows have diagnostics of their own."""
        loss, diagnostics = super().loss_of(steps)
        if self._is_replayed:
            diagnostics = {f"replay_{name}": value for name, value in diagnostics.items()}
        return loss, diagnostics

    def share(self, num_steps: int) -> float:
        """See `ActorCriticLearner.share`; replayed minibatches count alike."""
        return num_steps / self._replayed_steps if self._is_replayed else super().share(num_steps)

    def is_left_out(self, diagnostics: Mapping[str, Tensor], num_steps: int) -> bool:
        """See `PPO.is_left_out`; old policies may differ from this one by any amount."""
        return False if self._is_replayed else super().is_left_out(diagnostics, num_steps)
