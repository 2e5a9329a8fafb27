"""Proximal policy optimisation (arXiv 1707.06347) over trials."""

from collections.abc import Mapping
from functools import cached_property

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.modules import PopArtValueNorm
from torchrl.objectives import ClipPPOLoss

from rl2_lightning import keys
from rl2_lightning.algorithms.advantages import clear_idle_steps, trial_advantages
from rl2_lightning.algorithms.learner import Learner, Plan
from rl2_lightning.algorithms.ranks import over_all_ranks, world_size
from rl2_lightning.config import PPOConfig
from rl2_lightning.networks.actor_critic import ActorCritic

LOSS_KEYS = (
    keys.ACTION,
    keys.ACTION_LOG_PROB,
    keys.STATE_VALUE,
    keys.ADVANTAGE,
    keys.VALUE_TARGET,
)
SMALL = 1e-8


class PPO(Learner):
    """PPO with credit that crosses episodes, on windows of trials.

    The critic works in units of a running scale of the value targets: without it long trials,
    whose returns are large, do not learn.

    Args:
        network: the agent.
        settings: the hyper-parameters.
        num_episodes: most episodes that a trial can have.
        plan: what the run will collect; schedules are stretched on it.
    """

    def __init__(
        self,
        network: ActorCritic,
        settings: PPOConfig,
        *,
        num_episodes: int,
        plan: Plan,
    ) -> None:
        super().__init__(
            network,
            num_episodes=num_episodes,
            plan=plan,
            num_epochs=settings.num_epochs,
            num_minibatches=settings.num_minibatches,
        )
        self.settings = settings
        self.value_norm = PopArtValueNorm(shape=1, beta=settings.value_norm_decay)
        self._steps_per_minibatch = 1.0
        self._stopped = False

    @cached_property
    def ppo_loss(self) -> ClipPPOLoss:
        """TorchRL's loss on the two heads."""
        # Cached past `nn.Module`, which would register the network's parameters a second time.
        loss = ClipPPOLoss(
            self.network.actor,
            self.network.critic,
            clip_epsilon=self.settings.clip_epsilon,
            entropy_coeff=self.settings.entropy_coefficient,
            critic_coeff=self.settings.value_coefficient,
            clip_value=self.settings.value_clip,
            loss_critic_type="l2",
            log_explained_variance=False,
            # The functional form holds copies of the parameters, which DDP would not see.
            functional=False,
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

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over all parameters."""
        return torch.optim.Adam(
            self.network.parameters(),
            lr=self.settings.learning_rate,
            eps=self.settings.adam_epsilon,
        )

    def on_train_epoch_start(self) -> None:
        """Sets learning rate and entropy coefficient for the iteration.

        They follow from the spent part of the budget alone, so a resumed run needs no state of
        schedulers.
        """
        settings, progress = self.settings, self.progress

        def linear(first: float, last: float) -> float:
            return first + progress * (last - first)

        rate = linear(settings.learning_rate, settings.final_learning_rate)
        for group in self.trainer.optimizers[0].param_groups:
            group["lr"] = rate
        entropy = linear(settings.entropy_coefficient, settings.final_entropy_coefficient)
        self.ppo_loss.entropy_coeff.fill_(entropy)
        self.log_dict({"train/learning_rate": rate, "train/entropy_coefficient": entropy})
        self._stopped = False

    @torch.no_grad()
    def prepare_trials(self, trials: TensorDictBase) -> TensorDictBase:
        """Adds advantages and value targets, both normalised over the iteration and all ranks.

        Args:
            trials: as collected, `[B, T]`.

        Returns:
            What the loss reads, `[B, T]`, idle steps cleared.
        """
        self._follow_trial_length()
        values = self._values(trials)
        trials = clear_idle_steps(trials)
        advantages, targets = trial_advantages(
            trials, values, gamma=self.settings.gamma, gae_lambda=self.settings.gae_lambda
        )
        mask = trials.get(keys.MASK)
        everywhere = {
            name: over_all_ranks(entry[mask])
            for name, entry in (("advantage", advantages), ("target", targets), ("value", values))
        }
        all_advantages, all_targets = everywhere["advantage"], everywhere["target"]
        self.require_finite("a collected reward or value", all_targets.sum())
        residual = all_targets - everywhere["value"]
        self.value_norm.update(all_targets.unsqueeze(1))
        self._steps_per_minibatch = len(all_targets) / (world_size() * self.num_minibatches)
        self.count_iteration(mask.sum())
        self.note(
            {
                "return": trials.get(keys.REWARD).sum(dim=1).mean(),
                "explained_variance": 1 - residual.var() / all_targets.var().clamp(min=SMALL),
            }
        )
        trials.set(keys.VALUE_TARGET, self.value_norm.normalize(targets))
        centred = advantages - all_advantages.mean()
        trials.set(keys.ADVANTAGE, centred / all_advantages.std().clamp(min=SMALL))
        return trials.select(*self.network.in_keys, keys.MASK, *LOSS_KEYS)

    def _follow_trial_length(self) -> None:
        """Where trials become longer, the scale of their values grows with them at once."""
        before = self.plan.trial_length_at(max(0, self.iteration - 1))
        self._stretch_value_scale(self.plan.trial_length_at(self.iteration) / before)

    def take_weights(self, state: Mapping[str, Tensor], lengthened: float) -> None:
        """As the base does; the scale of the values grows with the trials."""
        super().take_weights(state, lengthened)
        self._stretch_value_scale(lengthened)

    def _stretch_value_scale(self, ratio: float) -> None:
        self.value_norm.running_mean *= ratio
        self.value_norm.running_mean_sq *= ratio**2

    def _values(self, trials: TensorDictBase) -> Tensor:
        """The critic's values in units of the reward, `[B, T, 1]`; zero where none is meant."""
        values = self.value_norm.denormalize(trials.get(keys.STATE_VALUE).float())
        mask = trials.get(keys.MASK)
        # The step after a cut is idle, but its value is bootstrapped from.
        follows = torch.zeros_like(mask)
        follows[:, 1:] = (mask & ~trials.get(keys.TERMINATED))[:, :-1]
        return values.masked_fill(~(mask | follows), 0)

    def training_step(self, minibatch: TensorDictBase, batch_index: int) -> Tensor:
        """The clipped loss of a minibatch of windows `[N]`."""
        if self._stopped:
            return self._no_update()
        steps = self._steps_with_loss(minibatch)
        losses = self.ppo_loss(steps) if len(steps) > 0 else None
        approximate_kl = self._approximate_kl(losses)
        if self._should_stop(approximate_kl, len(steps)):
            self._stopped = True
            return self._no_update()
        if losses is None:
            return self._zero_gradient()
        loss = losses["loss_objective"] + losses["loss_critic"] + losses["loss_entropy"]
        if world_size() == 1:
            # Several ranks are told at once, by the gradient that they share.
            self.require_finite("the loss", loss)
        self.note(
            {
                "policy_loss": losses["loss_objective"],
                "value_loss": losses["loss_critic"] / self.settings.value_coefficient,
                "entropy_loss": losses["loss_entropy"],
                "entropy": losses["entropy"],
                "approximate_kl": approximate_kl,
                "clip_fraction": losses["clip_fraction"],
            }
        )
        # Windows may hold different numbers of steps, and so may ranks: every step weighs alike.
        return loss * (len(steps) / self._steps_per_minibatch)

    def _steps_with_loss(self, minibatch: TensorDictBase) -> TensorDictBase:
        """Passes the windows through the memory, and lines up the steps that count, `[M]`."""
        state = minibatch.get(keys.MEMORY_STATE)
        burn_in = minibatch.get(keys.BURN_IN, None)
        if burn_in is not None:
            warmed = self.network.warm(burn_in, minibatch.get(keys.BURN_IN_STATE))
            state = warmed.where(minibatch.get(keys.HAS_BURN_IN).squeeze(-1), state)
        tasks = minibatch.get(keys.TASK, None)
        window = self.network.unroll(minibatch.get(keys.WINDOW), state, tasks)
        mask = window.get(keys.MASK).squeeze(-1)
        window = window.select(*self.network.head_keys, *LOSS_KEYS)
        if not mask.all():
            return window[mask]
        # Features lie step by step in memory: lined up in this order, they need not be copied.
        return window.transpose(0, 1).reshape(-1)

    def _approximate_kl(self, losses: TensorDictBase | None) -> Tensor:
        """Low-variance estimator of KL(old || new): mean of ratio - 1 - log(ratio)."""
        if losses is None:
            return torch.zeros((), device=self.device)
        return losses["mean_ratio"] - 1 + losses["kl_approx"]

    def _should_stop(self, approximate_kl: Tensor, num_steps: int) -> bool:
        if self.settings.target_kl is None:
            return False
        # All ranks decide on the same number, for a rank alone in its update would wait forever.
        total = over_all_ranks(num_steps * approximate_kl.detach().reshape(1)).sum()
        count = over_all_ranks(torch.full((1,), num_steps, device=self.device)).sum()
        return bool(total > self.settings.target_kl * count)

    def _zero_gradient(self) -> Tensor:
        """A loss without effect, for idle steps alone; other ranks wait for its gradient."""
        parameters = [parameter.sum() for parameter in self.network.parameters()]
        return 0 * torch.stack(parameters).sum()

    def _no_update(self) -> Tensor:
        """A loss that no parameter depends on: gradients stay unset, and Adam leaves all alone."""
        return torch.zeros((), device=self.device, requires_grad=True)
