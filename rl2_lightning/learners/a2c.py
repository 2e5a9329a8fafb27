"""Advantage actor-critic (arXiv 1602.01783) over trials."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tensordict import TensorDictBase
from torch import Tensor
from torch.nn import functional

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.actor_critic_settings import ActorCriticSettings
from rl2_lightning.settings import between


@dataclass
class A2CSettings(ActorCriticSettings):
    """Settings of A2C.

    Attributes:
        value_coefficient: weight of the critic's loss.
        normalise_advantages: whether the advantages of an iteration, whose mean is 0, have a
            standard deviation of 1; otherwise they are in units of the value scale, and updates
            become small where values are right.
        num_minibatches: updates of an iteration. There is one pass over its trials, which after it
            are those of an older policy.
    """

    gae_lambda: float = between(0, 1, default=0.95)
    value_coefficient: float = between(0, 1e30, default=0.5)
    normalise_advantages: bool = True
    num_minibatches: int = between(1, default=1)


class A2C(ActorCriticLearner):
    """A gradient step for each minibatch of windows, with credit across episode boundaries.

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.
    """

    Settings = A2CSettings

    def __init__(
        self,
        agent: Agent,
        settings: A2CSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings: A2CSettings = settings
        self._scheduled_entropy = settings.entropy_coefficient

    def on_train_epoch_start(self) -> None:
        """See `ActorCriticLearner.on_train_epoch_start`."""
        super().on_train_epoch_start()
        # The clock ticks before the iteration's updates.
        settings = self.settings
        self._scheduled_entropy = self.linear(
            settings.entropy_coefficient, settings.final_entropy_coefficient
        )

    def scaled(self, advantages: Tensor, all_advantages: Tensor) -> Tensor:
        """See `ActorCriticLearner.scaled`."""
        if self.settings.normalise_advantages:
            return super().scaled(advantages, all_advantages)
        # Where values are wrong, a common offset would drown what distinguishes actions.
        return (advantages - all_advantages.mean()) / self.value_scale.scale()

    def loss_weights(self) -> tuple[float | Tensor, float | Tensor]:
        """The weights of the critic's loss and of the entropy in this iteration."""
        return self.settings.value_coefficient, self._scheduled_entropy

    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `ActorCriticLearner.loss_of`."""
        policy = self.agent.policy(steps.get(keys.FEATURES))
        advantage = steps.get(keys.ADVANTAGE).squeeze(-1)
        policy_loss = -(advantage * policy.log_prob(steps.get(keys.ACTION))).mean()
        value_loss = functional.mse_loss(
            steps.get(keys.STATE_VALUE).float(), steps.get(keys.VALUE_TARGET)
        )
        entropy = policy.entropy().mean()
        value_weight, entropy_weight = self.loss_weights()
        loss = policy_loss + value_weight * value_loss - entropy_weight * entropy
        return loss, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
