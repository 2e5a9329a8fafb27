"""Proximal policy optimisation (arXiv 1707.06347) over trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from tensordict import TensorDictBase
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.errors import UserError
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.actor_critic_settings import ActorCriticSettings
from rl2_lightning.learners.learner import LearnerSettings, RunShape
from rl2_lightning.learners.ranks import over_all_ranks
from rl2_lightning.settings import between

CURRENT_VALUE = "current_value"  # [M, 1], with a gradient


@dataclass
class PPOSettings(ActorCriticSettings):
    """Settings of PPO.

    Attributes:
        clip_epsilon: clipping range of the probability ratio around 1.
        value_clip: clipping range of the value around the old one, in units of the value scale;
            None for no clipping.
        value_coefficient: weight of the critic's loss.
        num_epochs: passes over the windows of an iteration.
        target_kl: KL divergence from the old policy above which an iteration makes no more updates;
            None for no limit.
    """

    clip_epsilon: float = between(0, default=0.2)
    value_clip: float | None = between(0, default=None)
    value_coefficient: float = between(1e-6, default=0.5)
    num_epochs: int = between(1, default=4)
    target_kl: float | None = between(0, default=None)

    @property
    def num_passes(self) -> int:
        """See `ActorCriticSettings.num_passes`."""
        return self.num_epochs

    def check_run(self, run: RunShape) -> None:
        """See `LearnerSettings.check_run`."""
        super().check_run(run)
        if run.precision == "16-mixed" and self.target_kl is not None:
            raise UserError(
                f"learner.target_kl={self.target_kl} with trainer.precision=16-mixed: the "
                "gradient scaler does not allow skipped updates; set trainer.precision=bf16-mixed"
            )


class PPO(ActorCriticLearner):
    """PPO on windows of trials, with credit across episode boundaries.

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.
    """

    Settings: ClassVar[type[LearnerSettings]] = PPOSettings

    def __init__(
        self,
        agent: Agent,
        settings: PPOSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings: PPOSettings = settings
        self._stopped = False

    # Cached outside of `nn.Module`'s registry: its buffers are not part of a checkpoint.
    @cached_property
    def ppo_loss(self) -> ClipPPOLoss:
        """TorchRL's loss, the mean over steps."""
        return self.make_loss("mean")

    def make_loss(self, reduction: str) -> ClipPPOLoss:
        """TorchRL's loss, on precomputed distribution parameters and values.

        Args:
            reduction: "mean" over the steps, or "none".
        """
        policy = self.agent.policy
        names = list(policy.parameter_names)
        actor = ProbabilisticTensorDictSequential(
            TensorDictModule(nn.Identity(), in_keys=names[:1], out_keys=names[:1]),
            ProbabilisticTensorDictModule(
                in_keys=names,
                out_keys=[keys.ACTION],
                distribution_class=policy.distribution_class,
                distribution_kwargs={"validate_args": False},
                return_log_prob=True,
                log_prob_key=keys.ACTION_LOG_PROB,
            ),
        )
        critic = TensorDictModule(
            nn.Identity(), in_keys=[CURRENT_VALUE], out_keys=[keys.STATE_VALUE]
        )
        loss = ClipPPOLoss(
            actor,
            critic,
            clip_epsilon=self.settings.clip_epsilon,
            entropy_coeff=self.settings.entropy_coefficient,
            critic_coeff=self.settings.value_coefficient,
            clip_value=self.settings.value_clip,
            loss_critic_type="l2",
            log_explained_variance=False,
            functional=False,
            reduction=reduction,
            device=self.device,
        )
        loss.set_keys(
            action=keys.ACTION,
            sample_log_prob=keys.ACTION_LOG_PROB,
            value=keys.STATE_VALUE,
            advantage=keys.ADVANTAGE,
            value_target=keys.VALUE_TARGET,
        )
        return loss

    def on_train_epoch_start(self) -> None:
        """Set the learning rate and the entropy coefficient of the iteration."""
        super().on_train_epoch_start()
        self.ppo_loss.entropy_coeff.fill_(self.entropy_coefficient)
        self._stopped = False

    def window_loss(self, minibatch: TensorDictBase) -> Tensor:
        """The clipped loss of a minibatch of windows `[N]`."""
        return self.no_update() if self._stopped else super().window_loss(minibatch)

    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `ActorCriticLearner.loss_of`."""
        losses = self.losses_of(steps)
        loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        return loss, {
            "policy_loss": losses["loss_objective"],
            "value_loss": losses["loss_critic"] / self.settings.value_coefficient,
            "entropy_loss": losses["loss_entropy"],
            "entropy": losses["entropy"],
            # Low-variance estimator of KL(old || new): mean of ratio - 1 - log(ratio).
            "approximate_kl": losses["mean_ratio"] - 1 + losses["kl_approx"],
            "clip_fraction": losses["clip_fraction"],
        }

    def losses_of(self, steps: TensorDictBase) -> TensorDictBase:
        """TorchRL's losses, their means over lined-up steps `[M]`, and diagnostics."""
        return self.read_by_loss(self.ppo_loss, steps)

    def read_by_loss(self, loss: ClipPPOLoss, steps: TensorDictBase) -> TensorDictBase:
        """What TorchRL's loss returns for lined-up steps, `[M]`."""
        policy = self.agent.policy
        parameters = policy.parameters_of(steps.get(keys.FEATURES))
        read = steps.select(keys.ACTION, keys.ACTION_LOG_PROB, keys.ADVANTAGE, keys.VALUE_TARGET)
        for name, parameter in zip(policy.parameter_names, parameters, strict=True):
            read.set(name, parameter)
        read.set(keys.STATE_VALUE, steps.get(keys.OLD_STATE_VALUE))
        read.set(CURRENT_VALUE, steps.get(keys.STATE_VALUE).float())
        losses: TensorDictBase = loss(read)
        return losses

    def is_left_out(self, diagnostics: Mapping[str, Tensor], num_steps: int) -> bool:
        """Stop the iteration's updates once the policy has moved too far."""
        if self.settings.target_kl is None:
            return False
        # All ranks decide on the same number; a rank that updates alone would wait forever.
        counts = torch.full((1,), num_steps, device=self.device)
        sums = torch.zeros(1, device=self.device)
        if num_steps:
            sums = num_steps * diagnostics["approximate_kl"].detach().reshape(1)
        total, count = over_all_ranks(sums).sum(), over_all_ranks(counts).sum()
        self._stopped = bool(total > self.settings.target_kl * count)
        return self._stopped
