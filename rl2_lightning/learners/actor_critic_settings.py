"""The settings that all actor-critic learners have."""

from dataclasses import dataclass, field

from rl2_lightning.learners.critic import CriticSettings
from rl2_lightning.learners.learner import LearnerSettings, RunShape, require_division
from rl2_lightning.settings import between


@dataclass
class ActorCriticSettings(LearnerSettings):
    """Settings of an actor-critic learner.

    Attributes:
        critic: settings of the critic.
        learning_rate: Adam's learning rate at the start.
        final_learning_rate: learning rate at the end of the run; linear schedule.
        adam_epsilon: Adam's epsilon.
        gamma: discount of one env step.
        gae_lambda: GAE's λ, the weight of longer returns.
        value_norm_decay: decay per iteration of the running scale of the value targets.
        entropy_coefficient: weight of the entropy at the start.
        final_entropy_coefficient: weight of the entropy at the end of the run; linear schedule.
        num_minibatches: minibatches of a pass.
    """

    critic: CriticSettings = field(default_factory=CriticSettings)
    learning_rate: float = between(0, 1e30, default=3e-3)  # within the range of float32
    final_learning_rate: float = between(0, 1e30, default=0.0)
    adam_epsilon: float = between(0, default=1e-8)
    gamma: float = between(0, 1, default=1.0)
    gae_lambda: float = between(0, 1, default=0.3)
    value_norm_decay: float = between(0, 0.99999, default=0.99)  # at 1 the scale would never change
    entropy_coefficient: float = between(0, 1e30, default=0.01)
    final_entropy_coefficient: float = between(0, 1e30, default=0.0)
    num_minibatches: int = between(1, default=8)

    @property
    def num_passes(self) -> int:
        """The number of passes over the windows of an iteration."""
        return 1

    def check_run(self, run: RunShape) -> None:
        """Check that trials divide into minibatches and ranks; see `LearnerSettings.check_run`."""
        parts = run.num_ranks * self.num_minibatches
        into = f"learner.num_minibatches={self.num_minibatches} on {run.num_ranks} device(s)"
        for name, num_trials in run.num_trials.items():
            require_division(name, num_trials, parts, into)
