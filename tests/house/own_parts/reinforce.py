"""A user-defined learner: REINFORCE with a baseline (Williams 1992)."""

from collections.abc import Mapping
from dataclasses import dataclass

from tensordict import TensorDictBase
from torch import Tensor
from torch.nn import functional

from rl2_lightning import keys
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.actor_critic_settings import ActorCriticSettings
from rl2_lightning.settings import between


@dataclass
class ReinforceSettings(ActorCriticSettings):
    """Settings of an actor-critic learner, with a single pass over the data."""

    value_coefficient: float = between(0, default=0.5)


class Reinforce(ActorCriticLearner):
    """One policy gradient step for each minibatch of windows."""

    Settings = ReinforceSettings

    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        policy = self.agent.policy(steps[keys.FEATURES])
        advantage = steps[keys.ADVANTAGE].squeeze(-1)
        policy_loss = -(advantage * policy.log_prob(steps[keys.ACTION])).mean()
        value_loss = functional.mse_loss(steps[keys.STATE_VALUE], steps[keys.VALUE_TARGET])
        entropy = policy.entropy().mean()
        loss = (
            policy_loss
            + self.settings.value_coefficient * value_loss
            - self.entropy_weight * entropy
        )
        return loss, {"policy_loss": policy_loss, "value_loss": value_loss, "entropy": entropy}
