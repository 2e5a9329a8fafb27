"""The base of on-policy actor-critic learners: a critic, and advantages over whole trials."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.encoders.encoder import Encoder
from rl2_lightning.data.actor import AgentActor
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.data.sources import OnPolicySource, TrialSource
from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.families.play import Actor
from rl2_lightning.learners.actor_critic_settings import ActorCriticSettings
from rl2_lightning.learners.credit import clear_idle_steps, trial_advantages, valued_steps
from rl2_lightning.learners.critic import Critic
from rl2_lightning.learners.learner import Learner, zero_loss
from rl2_lightning.learners.pending_checks import Check
from rl2_lightning.learners.pooling import SMALL, normalised, pooled
from rl2_lightning.learners.ranks import world_size
from rl2_lightning.learners.recorded_loss import RecordedLoss
from rl2_lightning.learners.value_scale import ValueScale
from rl2_lightning.learners.windows import (
    line_up_entries,
    window_features,
    with_following_steps,
)


class ActorCriticLearner(Learner):
    """Assigns credit over whole trials, across episode boundaries.

    The critic works in units of a running scale of the value targets. A subclass implements the
    loss over steps (`loss_of`).

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.

    Attributes:
        loss_entries: entries of a window's steps, `[N, W]`, that the loss reads.
        entropy_weight: the weight of the entropy in this iteration's updates, on its schedule.
    """

    loss_entries: ClassVar[tuple[str, ...]] = (
        keys.ACTION,
        keys.ACTION_LOG_PROB,
        keys.ADVANTAGE,
        keys.VALUE_TARGET,
    )

    def __init__(
        self,
        agent: Agent,
        settings: ActorCriticSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings = settings
        self.critic = Critic(agent, settings.critic, task_sizes)
        self.value_scale = ValueScale(settings.value_norm_decay)
        self.reads_tasks = settings.critic.sees_task
        self.fresh: OnPolicySource
        self._steps_per_minibatch = 1.0
        self.entropy_weight: float | Tensor = settings.entropy_coefficient
        self.show_discounts(settings.gamma, settings.gae_lambda)

    def make_source(
        self,
        collect: Callable[[], TensorDictBase],
        shuffle_seed: Callable[[int], int],
    ) -> TrialSource:
        """The windows of this iteration's trials; see `Learner.make_source`."""
        self.fresh = OnPolicySource(
            collect,
            shuffle_seed,
            num_epochs=self.settings.num_passes,
            num_minibatches=self.settings.num_minibatches,
        )
        return self.fresh

    def make_actor(self, generator: torch.Generator) -> Actor:
        """The agent, whose features are stored if the critic shares them."""
        return AgentActor(self.agent, generator, keeps_features=not self.critic.is_separate)

    @abstractmethod
    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean loss over lined-up steps, `[]`, and diagnostics to log, `[]` each.

        Args:
            steps: `[M]`, at least one; see `lined_up_steps`.
        """

    def is_left_out(self, diagnostics: Mapping[str, Tensor], num_steps: int) -> bool:
        """Whether to skip the update of a minibatch; all ranks have to return the same value.

        It is called on all ranks at the same time, also where a minibatch contains no step.

        Args:
            diagnostics: diagnostics of the minibatch; empty if it contains no step.
            num_steps: number of steps in the minibatch.
        """
        return False

    def training_step(self, minibatch: TensorDictBase, batch_index: int) -> Any:
        """See `window_loss`."""
        return self.window_loss(minibatch)

    def window_loss(self, minibatch: TensorDictBase) -> Tensor:
        """The loss of a minibatch of windows `[N]`, weighted by its number of steps."""
        num_steps, loss, diagnostics = self._loss_of_windows(minibatch)
        if self.is_left_out(diagnostics, num_steps):
            return self.no_update()
        if num_steps == 0:
            return loss
        if world_size() == 1:
            # With several ranks, the check of the shared gradient stops all of them together.
            self.require_finite("the loss", loss)
        self.note(diagnostics)
        return loss * self.share(num_steps)

    def _loss_of_windows(
        self, minibatch: TensorDictBase
    ) -> tuple[int, Tensor, Mapping[str, Tensor]]:
        """The number of steps that count in windows `[N]`, and what `loss_of` returns for them."""
        num_slots = minibatch.get(keys.WINDOW).numel()
        # Minibatches have equally many windows, so that in each of them all steps count.
        if self.uses_graphs and num_slots == self._steps_per_minibatch:
            return num_slots, *self._recorded_loss(minibatch)
        steps = self.lined_up_steps(minibatch)
        if len(steps) == 0:
            return 0, zero_loss(self), {}
        return len(steps), *self.loss_of(steps)

    @cached_property
    def _recorded_loss(self) -> RecordedLoss:
        def loss_of(minibatch: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
            return self.loss_of(self.lined_up_steps(minibatch))

        return RecordedLoss(loss_of, self.parameters())

    def no_update(self) -> Tensor:
        """A loss independent of all parameters: gradients stay None, and Adam changes nothing."""
        return torch.zeros((), device=self.device, requires_grad=True)

    def configure_optimizers(self) -> torch.optim.Optimizer | list[torch.optim.Optimizer]:
        """Adam over the parameters of agent and critic."""
        parameters = [*self.agent.parameters(), *self.critic.parameters()]
        settings = self.settings
        return torch.optim.Adam(parameters, lr=settings.learning_rate, eps=settings.adam_epsilon)

    @property
    def learning_rate(self) -> float:
        """The learning rate of this iteration."""
        return self.linear(self.settings.learning_rate, self.settings.final_learning_rate)

    @property
    def entropy_coefficient(self) -> float:
        """The weight of the entropy in the iteration that begins."""
        settings = self.settings
        return self.linear(settings.entropy_coefficient, settings.final_entropy_coefficient)

    def on_train_start(self) -> None:
        """Show the discounts of this run, if the agent comes from another one."""
        self.show_discounts(*self.discounts)
        self._free_graph()
        for optimizer in self.trainer.optimizers:
            _choose_fused(optimizer, is_fused=self.uses_graphs)

    def on_train_end(self) -> None:
        """Free the memory of a graph."""
        self._free_graph()

    def _free_graph(self) -> None:
        # It reads the weights where they were in its training, which may have ended in an error.
        vars(self).pop("_recorded_loss", None)

    def on_train_epoch_start(self) -> None:
        """Set the learning rate and the weight of the entropy of the iteration."""
        self.set_learning_rate(self.learning_rate)
        self._set_entropy_weight(self.entropy_coefficient)

    def _set_entropy_weight(self, weight: float) -> None:
        """Set the weight of the entropy of an iteration, and log it."""
        self.log_iteration({"train/entropy_coefficient": weight})
        if not self.uses_graphs:
            self.entropy_weight = weight
        elif isinstance(self.entropy_weight, Tensor):
            self.entropy_weight.fill_(weight)  # a recorded loss reads it where it is
        else:
            self.entropy_weight = torch.full((), weight, device=self.device)

    @torch.no_grad()
    def prepare(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """Add advantages and value targets, both normalised over the iteration and all ranks.

        See `Learner.prepare`; entries of idle steps are set to zero.
        """
        stage = self.plan.stage_at(self.clock.iterations)
        self.value_scale.follow(stage.steps_per_iteration // stage.num_trials)
        trials = self.critic.add_values(trials, state_steps)
        values = self.values_of(trials.get(keys.STEPS))
        trials = clear_idle_steps(trials, state_steps)
        steps = trials.get(keys.STEPS)
        self.add_credit(steps, values)
        self.count_iteration(steps.get(keys.MASK).sum())
        self.note({"return": steps.get(keys.REWARD).sum(dim=1).mean()})
        return trials.set(keys.STEPS, steps)

    @property
    def discounts(self) -> tuple[float, float]:
        """γ and GAE's λ of this iteration."""
        return self.settings.gamma, self.settings.gae_lambda

    def scaled(self, advantages: Tensor, all_advantages: Tensor) -> Tensor:
        """Advantages, `[...]`, in the units of the loss, given those of all ranks, `[M]`."""
        return normalised(advantages, all_advantages)

    def show_discounts(self, gamma: float, gae_lambda: float) -> None:
        """Show γ and λ to the networks, if they embed them."""
        for module in self.modules():
            if isinstance(module, Encoder):
                module.set_discounts(gamma, gae_lambda)

    def add_credit(self, steps: TensorDictBase, values: Tensor) -> None:
        """Add advantages and value targets to the steps of whole trials.

        Args:
            steps: `[B, T]`, idle ones set to zero; changed in place.
            values: values in units of the reward, `[B, T, 1]`.
        """
        gamma, gae_lambda = self.discounts
        advantages, targets = trial_advantages(steps, values, gamma=gamma, gae_lambda=gae_lambda)
        mask = steps.get(keys.MASK)
        all_advantages, all_targets, all_values = pooled(mask, advantages, targets, values)
        try:
            self.value_scale.update(all_targets.unsqueeze(1))
        except NonFiniteLossError:
            # Only now, since a GPU has to finish its work before it can be asked anything.
            if not (total := all_targets.sum()).isfinite():
                self.stop_at(Check("a collected reward or value", total, None))
            raise
        residual = all_targets - all_values
        parts = world_size() * self.settings.num_minibatches
        self._steps_per_minibatch = len(all_targets) / parts
        explained = 1 - residual.var() / all_targets.var().clamp(min=SMALL)
        self.note({"explained_variance": explained})
        steps.set(keys.ADVANTAGE, self.scaled(advantages, all_advantages))
        steps.set(keys.VALUE_TARGET, self.value_scale.normalize(targets))

    def values_of(self, steps: TensorDictBase) -> Tensor:
        """The critic's values in units of the reward, `[B, T, 1]`; zero where none is needed."""
        values = self.value_scale.denormalize(steps.get(keys.STATE_VALUE).float())
        return values.masked_fill(~valued_steps(steps), 0)

    def lined_up_steps(self, minibatch: TensorDictBase) -> TensorDictBase:
        """Pass windows through the memories, and line up the steps that count.

        Args:
            minibatch: windows, `[N]`.

        Returns:
            The steps `[M]` of the windows with the agent's features, `[M, H]`, and the values, `[M,
            1]`, both with gradients, as `features` and `state_value`; the critic's values at
            collection are `old_state_value`.
        """
        window = minibatch.get(keys.WINDOW)
        features = self.features_of(minibatch)
        entries = {name: window.get(name) for name in self.loss_entries}
        entries |= {
            keys.OLD_STATE_VALUE: window.get(keys.STATE_VALUE),
            keys.FEATURES: features,
            keys.STATE_VALUE: self.window_values(minibatch, features),
        }
        return line_up_entries(window, entries)

    def features_of(self, minibatch: TensorDictBase) -> Tensor:
        """The agent's features of windows, `[N, W, H]`, with gradients."""
        return window_features(self.agent, minibatch)

    def window_values(
        self,
        minibatch: TensorDictBase,
        features: Tensor | None = None,
        *,
        with_following: bool = False,
    ) -> Tensor:
        """The critic's values of windows, `[N, W, 1]`, with gradients.

        Args:
            minibatch: windows, `[N]`.
            features: the agent's features, `[N, W, H]`; only needed by a critic that has no memory
                of its own.
            with_following: whether to include the steps after the windows; see `window_features`.
        """
        if self.critic.is_separate:
            features = window_features(
                self.critic, minibatch, keys.CRITIC_STATE, with_following=with_following
            )
        assert features is not None
        steps = with_following_steps(minibatch) if with_following else minibatch.get(keys.WINDOW)
        elapsed = steps.get(keys.ELAPSED)
        return self.critic.value(features, elapsed, minibatch.get(keys.TASK, None))

    def share(self, num_steps: int) -> float:
        """The weight of a minibatch's mean loss.

        Windows and ranks may have different numbers of steps; with this weight, all steps count
        equally.
        """
        return num_steps / self._steps_per_minibatch


def _choose_fused(optimizer: torch.optim.Optimizer, *, is_fused: bool) -> None:
    """Let Adam be one operation or several, whatever it was in the checkpoint of a resumed run."""
    for group in optimizer.param_groups:
        if "fused" not in group:
            continue
        group["fused"] = is_fused or None
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if "step" in state:
                state["step"] = state["step"].to(parameter.device if is_fused else "cpu")
