"""Trust region policy optimisation (arXiv 1502.05477) over trials."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.nn import functional

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.errors import UserError
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.actor_critic_settings import ActorCriticSettings
from rl2_lightning.learners.critic import CriticSettings
from rl2_lightning.learners.learner import RunShape, zero_loss
from rl2_lightning.learners.natural_gradient import trust_region_step
from rl2_lightning.learners.surrogate import SurrogateProblem
from rl2_lightning.learners.windows import line_up_entries
from rl2_lightning.settings import between

REMEDY = "raise learner.damping"


@dataclass
class SeparateCriticSettings(CriticSettings):
    """Settings of a critic with a memory of its own."""

    separate: bool = True

    def check(self) -> None:
        """See `Settings.check`."""
        if not self.separate:
            raise UserError(
                "learner.critic.separate=false with TRPO: fitting the critic would move the "
                "policy's memory out of the trust region; set learner.critic.separate=true"
            )


@dataclass
class TRPOSettings(ActorCriticSettings):
    """Settings of TRPO; learning rate, epochs and minibatches are those of the critic.

    Attributes:
        num_epochs: passes over the windows of an iteration.
        target_kl: largest mean KL divergence of an iteration's policy from the one before, in nats.
        damping: multiple of the identity that is added to the Fisher matrix.
        conjugate_gradient_steps: Fisher-vector products for the direction.
        fisher_stride: the Fisher matrix is that of every n-th trial.
        line_search_steps: fractions of the step that are tried, each 0.8 of the one before.
    """

    critic: SeparateCriticSettings = field(default_factory=SeparateCriticSettings)
    num_epochs: int = between(1, default=4)
    target_kl: float = between(1e-8, default=0.01)
    damping: float = between(0, default=1e-3)
    conjugate_gradient_steps: int = between(1, default=10)
    fisher_stride: int = between(1, default=8)
    line_search_steps: int = between(1, 100, default=10)

    @property
    def num_passes(self) -> int:
        """See `ActorCriticSettings.num_passes`."""
        return self.num_epochs

    def check_run(self, run: RunShape) -> None:
        """See `LearnerSettings.check_run`."""
        super().check_run(run)
        if run.precision == "16-mixed":
            raise UserError(
                "trainer.precision=16-mixed with TRPO: the policy's step has no gradient scaler; "
                "set trainer.precision=bf16-mixed"
            )


class TRPO(ActorCriticLearner):
    """TRPO on windows of trials, with credit across episode boundaries.

    Before its first minibatch, an iteration makes one step of the policy on all of its windows. The
    minibatches fit the critic, by Adam.

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.
    """

    Settings = TRPOSettings

    def __init__(
        self,
        agent: Agent,
        settings: TRPOSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings: TRPOSettings = settings
        self._windows_per_trial = 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the parameters of the critic."""
        settings = self.settings
        return torch.optim.Adam(
            self.critic.parameters(), lr=settings.learning_rate, eps=settings.adam_epsilon
        )

    def prepare(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """See `ActorCriticLearner.prepare`."""
        self._windows_per_trial = len(state_steps)
        return super().prepare(trials, state_steps)

    def on_train_batch_start(self, batch: TensorDictBase, batch_index: int) -> None:
        """Improve the policy before the first minibatch, in float32 under every precision."""
        if batch_index == 0:
            self.improve_policy(self.fresh.windows)

    def improve_policy(self, windows: TensorDictBase) -> None:
        """Take the largest step within the trust region that improves the policy, if there is one.

        All ranks take the same step.

        Args:
            windows: this rank's windows of the iteration, `[N]`.

        Raises:
            NonFiniteLossError: the gradient or the step is not finite.
        """
        settings = self.settings
        size = len(windows) // settings.num_minibatches
        # Whole trials: a step between windows could leave out the same part of each trial.
        indices = torch.arange(len(windows), device=self.device).view(-1, self._windows_per_trial)
        some_windows = windows[indices[:: settings.fisher_stride].flatten()]
        problem = SurrogateProblem(
            self.agent, windows.split(size), some_windows.split(size), float(self.entropy_weight)
        )
        gradient = problem.gradient()
        self.require_finite("the norm of the policy's gradient", gradient.norm(), REMEDY)
        step = trust_region_step(
            problem.fisher_vector_product,
            gradient,
            limit=settings.target_kl,
            damping=settings.damping,
            num_steps=settings.conjugate_gradient_steps,
        )
        self.require_finite("the norm of the policy's step", step.norm(), REMEDY)
        before = problem.measure()
        taken = problem.take(step, before, settings.target_kl, settings.line_search_steps)
        noted = {
            "policy_improvement": taken.objective - before.objective,
            "approximate_kl": taken.divergence,
            "step_fraction": taken.fraction,
            "entropy": before.entropy,
        }
        self.note({name: torch.tensor(value, device=self.device) for name, value in noted.items()})

    def lined_up_steps(self, minibatch: TensorDictBase) -> TensorDictBase:
        """The steps `[M]` of windows `[N]` that count, with values and their targets, `[M, 1]`."""
        window = minibatch.get(keys.WINDOW)
        values = self.window_values(minibatch)
        entries = {keys.STATE_VALUE: values, keys.VALUE_TARGET: window.get(keys.VALUE_TARGET)}
        return line_up_entries(window, entries)

    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The critic's loss; see `ActorCriticLearner.loss_of`."""
        value_loss = functional.mse_loss(
            steps.get(keys.STATE_VALUE).float(), steps.get(keys.VALUE_TARGET)
        )
        # DDP waits for a gradient of the agent, too.
        return value_loss + zero_loss(self.agent), {"value_loss": value_loss}
