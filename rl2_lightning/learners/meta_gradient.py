"""Meta-gradient reinforcement learning (arXiv 1805.09801): A2C that learns its own γ and λ."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.func import functional_call

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.memory import second_derivatives
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.learners.a2c import A2C
from rl2_lightning.learners.credit import discount_derivatives, trial_advantages
from rl2_lightning.learners.inner_update import AdamUpdate
from rl2_lightning.learners.manual import ManualLearner
from rl2_lightning.learners.meta_parameters import (
    DISCOUNTS,
    NAMES,
    MetaGradientSettings,
    MetaParameters,
)
from rl2_lightning.learners.natural_gradient import flat_gradient
from rl2_lightning.learners.pooling import normalised_derivatives, pooled
from rl2_lightning.learners.ranks import sum_over_ranks, world_size
from rl2_lightning.learners.windows import line_up_entries, window_features


class MetaGradient(ManualLearner, A2C):
    """A2C whose γ, λ and other meta-parameters η are learnt by a gradient through its updates.

    The trials of an iteration measure what the last update has done (the outer objective, with the
    fixed γ and λ of a reference), and then serve for the next update. What an update does to the
    weights is remembered as its derivatives with respect to η, the trace.

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.

    Attributes:
        meta: the meta-parameters.
        trace: derivatives of the weights with respect to the free numbers of the meta-parameters
            (arXiv 1805.09801, equation 4), `[K, P]`.
    """

    Settings = MetaGradientSettings
    rate_fields = ("learner.learning_rate", "learner.outer_learning_rate")
    gradient_names = ("gradient_norm", "outer_gradient_norm")
    trace: Tensor
    loss_entries = (
        *A2C.loss_entries,
        keys.ADVANTAGE_DERIVATIVE,
        keys.VALUE_TARGET_DERIVATIVE,
    )

    def __init__(
        self,
        agent: Agent,
        settings: MetaGradientSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        self.settings: MetaGradientSettings = settings
        start = {name: getattr(settings, name) for name in DISCOUNTS}
        self.meta = MetaParameters(settings.meta_parameters, start)
        num_weights = sum(parameter.numel() for parameter in self.inner_parameters)
        self.register_buffer("trace", torch.zeros(len(self.meta.names), num_weights))
        self.show_discounts(*self.discounts)
        self._ascent: Tensor

    @property
    def inner_parameters(self) -> list[nn.Parameter]:
        """The parameters of agent and critic, with P numbers."""
        return [*self.agent.parameters(), *self.critic.parameters()]

    @property
    def discounts(self) -> tuple[float, float]:
        """γ and λ of this iteration."""
        gamma, gae_lambda = self.meta.discounts().detach().tolist()
        return gamma, gae_lambda

    @property
    def learning_rate(self) -> float:
        """The learning rate of this iteration."""
        with torch.no_grad():
            return super().learning_rate * float(self.meta.value("learning_rate"))

    @property
    def entropy_coefficient(self) -> float:
        """The weight of the entropy in the iteration that begins."""
        with torch.no_grad():
            return super().entropy_coefficient * float(self.meta.value("entropy_coefficient"))

    def loss_weights(self) -> tuple[float | Tensor, float | Tensor]:
        """See `A2C.loss_weights`; with gradients by what is learnt."""
        value_weight, entropy_weight = super().loss_weights()
        return (
            value_weight * self.meta.value("value_coefficient"),
            entropy_weight * self.meta.value("entropy_coefficient"),
        )

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam over agent and critic, and Adam over the meta-parameters."""
        inner = super().configure_optimizers()
        assert isinstance(inner, torch.optim.Optimizer)
        rate = self.settings.outer_learning_rate
        return [inner, torch.optim.Adam(self.meta.parameters(), lr=rate)]

    @torch.no_grad()
    def on_train_epoch_start(self) -> None:
        """Set the learning rate of the iteration, and log the meta-parameters."""
        super().on_train_epoch_start()
        value_weight, _ = self.loss_weights()
        logged = dict(zip(DISCOUNTS, self.discounts, strict=True))
        logged["value_coefficient"] = float(value_weight)
        self.log_iteration({f"train/{name}": value for name, value in logged.items()})

    @torch.no_grad()
    def meta_values(self) -> dict[str, float]:
        """The values of what is learnt, by name, at this point of the schedules."""
        value_weight, entropy_weight = map(float, self.loss_weights())
        values = {
            **dict(zip(DISCOUNTS, self.discounts, strict=True)),
            "entropy_coefficient": entropy_weight,
            "value_coefficient": value_weight,
            "learning_rate": self.learning_rate,
        }
        return {name: values[name] for name in NAMES if name in self.meta.names}

    def add_credit(self, steps: TensorDictBase, values: Tensor) -> None:
        """See `ActorCriticLearner.add_credit`.

        It also adds the derivatives of advantages and value targets with respect to γ and λ, and
        the advantages of the outer objective. Values, and the scale of the value targets, are data.
        """
        super().add_credit(steps, values)
        mask, settings = steps.get(keys.MASK), self.settings
        gamma, gae_lambda = self.discounts
        advantages, _ = trial_advantages(steps, values, gamma=gamma, gae_lambda=gae_lambda)
        of_advantages, of_targets = discount_derivatives(
            steps, values, gamma=gamma, gae_lambda=gae_lambda
        )
        references, _ = trial_advantages(
            steps,
            values,
            gamma=settings.reference_gamma,
            gae_lambda=settings.reference_gae_lambda,
        )
        scale = self.value_scale.scale()
        if settings.normalise_advantages:
            of_advantages = normalised_derivatives(advantages, of_advantages, mask)
        else:
            means = [pooled(mask, one)[0].mean() for one in of_advantages.split(1, dim=-1)]
            of_advantages = (of_advantages - torch.stack(means)) / scale
        steps.set(keys.ADVANTAGE_DERIVATIVE, of_advantages)
        steps.set(keys.VALUE_TARGET_DERIVATIVE, of_targets / scale)
        steps.set(keys.REFERENCE_ADVANTAGE, self.scaled(references, *pooled(mask, references)))

    def loss_of(self, steps: TensorDictBase) -> tuple[Tensor, Mapping[str, Tensor]]:
        """See `ActorCriticLearner.loss_of`; with gradients by γ and λ, which change credit."""
        discounts = self.meta.discounts()
        change = discounts - discounts.detach()  # 0, with the gradient 1
        credited = steps.copy()
        for name, derivative in (
            (keys.ADVANTAGE, keys.ADVANTAGE_DERIVATIVE),
            (keys.VALUE_TARGET, keys.VALUE_TARGET_DERIVATIVE),
        ):
            changed = steps.get(name) + (steps.get(derivative) @ change).unsqueeze(-1)
            credited.set(name, changed)
        return super().loss_of(credited)

    def forward(self, minibatch: TensorDictBase) -> Tensor:
        """The inner loss; see `ActorCriticLearner.window_loss`."""
        return self.window_loss(minibatch)

    def training_step(self, minibatch: TensorDictBase, batch_index: int) -> None:
        """Measure the last update before the first minibatch, update, and learn from the measure.

        η is the same for all of an iteration: it is the one that the trials were played with, if
        the networks embed it.
        """
        if batch_index == 0:
            self._ascent = self.meta_gradient(self.fresh.windows)
            names = zip(self.meta.names, self._ascent, strict=True)
            self.note({f"meta_gradient_{name}": value for name, value in names})
        self.update(*self.inner_derivatives(minibatch))
        if batch_index == len(self.fresh) - 1:
            self.apply_gradients(1, (-self._ascent).unbind())
            self.show_discounts(*self.discounts)

    def inner_derivatives(self, minibatch: TensorDictBase) -> tuple[Tensor, Tensor]:
        """The gradient of the inner loss, `[P]`, and its derivatives by η's free numbers, `[K, P]`.

        They are the same on all ranks.

        Args:
            minibatch: this rank's windows, `[N]`.
        """
        shown = [name for name, _ in self.named_buffers() if name.endswith("encoder.discounts")]
        with second_derivatives() if shown else nullcontext():
            discounts = self.meta.discounts()
            loss = functional_call(self, dict.fromkeys(shown, discounts), (minibatch,))
            free = list(self.meta.parameters())
            of_loss = torch.autograd.grad(loss, free, create_graph=True, materialize_grads=True)
        # Mixed derivatives do not depend on the order. This one differentiates the networks a
        # second time only if they embed η.
        weights = self.inner_parameters
        rows = [
            flat_gradient(value, weights, retain_graph=True)
            if value.requires_grad
            else torch.zeros_like(self.trace[0])
            for value in (loss, *of_loss)
        ]
        gradient, *derivatives = sum_over_ranks(torch.stack(rows)) / world_size()
        return gradient, torch.stack(derivatives)

    def update(self, gradient: Tensor, derivatives: Tensor) -> None:
        """Update agent and critic, and remember what η has done to them.

        Args:
            gradient: gradient of the inner loss, `[P]`.
            derivatives: its derivatives by η's free numbers, `[K, P]`.
        """
        optimizer: torch.optim.Optimizer = self.optimizer_at(0).optimizer
        next_step = AdamUpdate.following(optimizer, self.gradient_clip_val)
        rate = gradient.new_tensor(optimizer.param_groups[0]["lr"])
        of_rate = rate * gradient.new_tensor([n == "learning_rate" for n in self.meta.names])
        added = next_step.derivatives(gradient, derivatives, rate, of_rate)
        self.trace.mul_(self.settings.trace_decay).add_(added)
        parts = gradient.split([one.numel() for one in self.inner_parameters])
        pairs = zip(parts, self.inner_parameters, strict=True)
        self.apply_gradients(0, [part.view_as(one) for part, one in pairs])

    def meta_gradient(self, windows: TensorDictBase) -> Tensor:
        """The gradient of the outer objective by η's free numbers, `[K]`, the same on all ranks.

        Args:
            windows: this rank's windows of an iteration, `[N]`.
        """
        # Autocast would compute a matrix product in 16 bits.
        return (self.trace * self.outer_gradient(windows)).sum(dim=1)

    def outer_gradient(self, windows: TensorDictBase) -> Tensor:
        """The gradient of the outer objective, `[P]`, the same on all ranks.

        The objective is the mean over the steps of the logarithm of the action's probability times
        its advantage with the reference's γ and λ (arXiv 1805.09801, equation 13).

        Args:
            windows: this rank's windows of an iteration, `[N]`.
        """
        weights, total = self.inner_parameters, torch.zeros_like(self.trace[0])
        num_steps = 0
        for chunk in windows.split(len(windows) // self.settings.num_minibatches):
            window = chunk.get(keys.WINDOW)
            entries = {name: window.get(name) for name in (keys.ACTION, keys.REFERENCE_ADVANTAGE)}
            entries[keys.FEATURES] = window_features(self.agent, chunk)
            steps = line_up_entries(window, entries)
            log_probs = self.agent.policy(steps.get(keys.FEATURES)).log_prob(steps.get(keys.ACTION))
            gain = (log_probs * steps.get(keys.REFERENCE_ADVANTAGE).squeeze(-1)).sum()
            total += flat_gradient(gain, weights)
            num_steps += len(steps)
        return sum_over_ranks(total) / sum_over_ranks(total.new_tensor([num_steps]))

    def take_weights(self, state: Mapping[str, Tensor]) -> None:
        """See `Learner.take_weights`; nothing is remembered of the other training's updates."""
        super().take_weights(state)
        self.trace.zero_()
