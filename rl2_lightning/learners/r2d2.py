"""R2D2: a recurrent Q-learner with prioritised replay (Kapturowski et al. 2019)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torchrl.modules import SignedHyperbolicValueTransform

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.initialisation import fully_connected
from rl2_lightning.agents.spaces import Box, Discrete
from rl2_lightning.data.exploration import EpsilonGreedyActor
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.data.replay_settings import ReplaySettings
from rl2_lightning.data.sources import TrialSource
from rl2_lightning.data.windows import as_tensordict
from rl2_lightning.errors import UserError
from rl2_lightning.families.play import Actor
from rl2_lightning.learners.credit import clear_idle_steps, n_step_returns, valued_steps
from rl2_lightning.learners.learner import (
    Learner,
    LearnerSettings,
    RunShape,
    require_division,
    zero_loss,
)
from rl2_lightning.learners.ranks import rank, sum_over_ranks, world_size
from rl2_lightning.learners.replaying import importance_weights, replay_on_rank
from rl2_lightning.learners.windows import window_features, with_following_steps
from rl2_lightning.settings import POSITIVE, between, one_of


@dataclass
class R2D2Settings(LearnerSettings):
    """Settings of R2D2.

    Attributes:
        replay: settings of the replay buffer.
        state: where the memory starts before a burn-in: "stored", the state at collection, or
            "zero", an empty memory.
        value_hidden_sizes: widths of the hidden layers of the value's head.
        learning_rate: Adam's learning rate at the start.
        final_learning_rate: learning rate at the end of the run; linear schedule.
        adam_epsilon: Adam's epsilon.
        gamma: discount of one env step.
        num_steps: n, number of rewards in a target.
        rescaling: ε of the value rescaling h.
        target_period: updates after which the target network is replaced by the current one.
        polyak: share of the current network in the target network after each update, in place of
            `target_period`; None for no averaging.
        epsilon: largest probability of a random action, of the first trial of a batch.
        epsilon_power: the last trial has `epsilon` to the power of one more than this.
        num_updates: minibatches of an iteration.
    """

    replay: ReplaySettings = field(default_factory=ReplaySettings)
    state: str = one_of("stored", "zero", default="stored")
    value_hidden_sizes: list[int] = field(default_factory=list, metadata=POSITIVE)
    learning_rate: float = between(0, 1e30, default=1e-3)
    final_learning_rate: float = between(0, 1e30, default=0.0)
    adam_epsilon: float = between(0, default=1e-8)
    gamma: float = between(0, 1, default=0.997)
    num_steps: int = between(1, 1000, default=5)
    rescaling: float = between(1e-6, 1, default=1e-3)
    target_period: int = between(1, default=200)
    polyak: float | None = between(1e-6, 1, default=None)
    epsilon: float = between(0, 1, default=0.4)
    epsilon_power: float = between(0, default=7.0)
    num_updates: int = between(1, default=64)

    def check_run(self, run: RunShape) -> None:
        """See `LearnerSettings.check_run`."""
        self.replay.check_run(run.num_trials, run.num_ranks)
        for name, num_trials in run.num_trials.items():
            require_division(name, num_trials, run.num_ranks, f"{run.num_ranks} device(s)")


class R2D2(Learner):
    """Double, dueling Q-learning on replayed windows, whose memory is warmed up on their burn-in.

    The agent's policy is the head of the advantages: Q is the value plus the advantages minus their
    mean, so the agent's greedy action is the one with the largest Q, and the agent alone can act.
    Trials are played by it with a probability of random actions that differs from trial to trial.

    Args:
        agent: the agent to train.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: not used.

    Raises:
        UserError: the actions are continuous.
    """

    Settings = R2D2Settings
    updates_done: Tensor
    _rescaling: SignedHyperbolicValueTransform

    def __init__(
        self,
        agent: Agent,
        settings: R2D2Settings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        if not isinstance(agent.spec.actions, Discrete):
            kind = "continuous ones" if isinstance(agent.spec.actions, Box) else "several at once"
            raise UserError(
                f"learner=r2d2 learns the value of each action, and this family has {kind}: use "
                "learner=r2d2_ppo"
            )
        self.settings = settings
        self.num_following = settings.num_steps
        self.value = fully_connected(agent.memory.summary_size, settings.value_hidden_sizes, 1)
        self.target_agent = copy.deepcopy(agent).requires_grad_(False)
        self.target_value = copy.deepcopy(self.value).requires_grad_(False)
        self.register_buffer("updates_done", torch.zeros((), dtype=torch.int64))
        self._rescaling = SignedHyperbolicValueTransform(settings.rescaling)
        self._source: TrialSource

    def make_actor(self, generator: torch.Generator) -> Actor:
        """The agent with random actions; see `Learner.make_actor`."""
        return EpsilonGreedyActor(
            self.agent,
            generator,
            epsilon=self.settings.epsilon,
            power=self.settings.epsilon_power,
            part=(rank(), world_size()),
        )

    def make_source(
        self,
        collect: Callable[[], TensorDictBase],
        shuffle_seed: Callable[[int], int],
    ) -> TrialSource:
        """Replayed windows; see `Learner.make_source`."""
        settings = self.settings
        self._source = replay_on_rank(collect, shuffle_seed, settings.replay, settings.num_updates)
        return self._source

    @torch.no_grad()
    def prepare(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """Clear idle steps; see `Learner.prepare`."""
        trials = clear_idle_steps(trials, state_steps)
        steps = trials.get(keys.STEPS)
        reward = steps.get(keys.REWARD)
        self.require_finite("a collected reward", sum_over_ranks(reward.sum()))
        self.count_iteration(steps.get(keys.MASK).sum())
        self.note({"return": reward.sum(dim=1).mean()})
        return trials

    def training_step(self, minibatch: TensorDictBase, batch_index: int) -> Tensor:
        """The loss of a minibatch of windows `[N]`."""
        if self.settings.state == "zero":
            minibatch = self._without_states(minibatch)
        window = minibatch.get(keys.WINDOW)
        mask = window.get(keys.MASK).squeeze(-1)
        values, targets = self.values_and_targets(minibatch)
        errors = (targets - values).masked_fill(~mask, 0)
        self._source.feedback(
            minibatch.get(keys.INDEX),
            self.settings.replay.priorities(errors.detach().abs(), mask),
        )
        num_steps = mask.sum()
        # DDP averages gradients: divided by the mean over ranks, all steps count equally.
        mean_steps = sum_over_ranks(num_steps.reshape(1).float()) / world_size()
        weight = importance_weights(minibatch).unsqueeze(1)
        if num_steps == 0:
            return zero_loss(self)
        loss = 0.5 * (weight * errors.square()).sum() / mean_steps.squeeze()
        if world_size() == 1:
            # With several ranks, the check of the shared gradient stops all of them together.
            self.require_finite("the loss", loss)
        counted = values.detach()[mask]
        self.note(
            {
                "value_loss": loss,
                "q_value": self._rescaling.inverse(counted).mean(),
                "td_error": errors.detach().abs().sum() / num_steps,
            }
        )
        return loss

    def values_and_targets(self, minibatch: TensorDictBase) -> tuple[Tensor, Tensor]:
        """The rescaled values of the actions taken, with gradients, and their targets.

        The targets are n-step double-Q targets: the current network chooses the action after n
        steps, and the target network gives its value.

        Args:
            minibatch: windows, `[N]`, with the n steps after them.

        Returns:
            `[N, W]` each, in the scale of h.
        """
        steps = with_following_steps(minibatch)
        length = minibatch.get(keys.WINDOW).batch_size[1]
        all_values = self._q_values(self.agent, self.value, minibatch)
        action = minibatch.get(keys.WINDOW).get(keys.ACTION).unsqueeze(-1)
        values = all_values[:, :length].gather(-1, action).squeeze(-1)
        with torch.no_grad():
            best = all_values.argmax(dim=-1, keepdim=True)
            theirs = self._q_values(self.target_agent, self.target_value, minibatch)
            following = self._rescaling.inverse(theirs.gather(-1, best))
            following = following.masked_fill(~valued_steps(steps), 0)
            targets = n_step_returns(
                steps,
                following,
                gamma=self.settings.gamma,
                num_steps=self.settings.num_steps,
                length=length,
            )
        return values, self._rescaling(targets).squeeze(-1)

    def _q_values(self, agent: Agent, value: nn.Module, minibatch: TensorDictBase) -> Tensor:
        """The values of all actions in windows and the steps after them, `[N, W + n, A]`."""
        features = window_features(agent, minibatch, with_following=True)
        (advantages,) = agent.policy.parameters_of(features)
        summary = features[..., : agent.memory.summary_size]
        return value(summary).float() + advantages - advantages.mean(dim=-1, keepdim=True)

    def _without_states(self, minibatch: TensorDictBase) -> TensorDictBase:
        """The windows with an empty memory before them."""
        empty = self.agent.initial_state(len(minibatch))
        return minibatch.copy().set(keys.MEMORY_STATE, as_tensordict(empty, [len(minibatch)]))

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam over the parameters of the agent and the value's head."""
        parameters = [*self.agent.parameters(), *self.value.parameters()]
        settings = self.settings
        return torch.optim.Adam(parameters, lr=settings.learning_rate, eps=settings.adam_epsilon)

    def on_train_epoch_start(self) -> None:
        """Set the learning rate of the iteration."""
        settings = self.settings
        self.set_learning_rate(self.linear(settings.learning_rate, settings.final_learning_rate))

    def on_train_batch_end(self, outputs: Any, batch: TensorDictBase, batch_index: int) -> None:
        """Check the weights, and let the target network follow."""
        super().on_train_batch_end(outputs, batch, batch_index)
        self.updates_done += 1
        share = self.settings.polyak
        if share is None:
            share = float(int(self.updates_done) % self.settings.target_period == 0)
        if share:
            self.follow(share)

    @torch.no_grad()
    def follow(self, share: float) -> None:
        """Move the target network towards the current one, by a share of the difference.

        Its buffers, such as the spread of the inputs, become those of the current one.
        """
        pairs = ((self.agent, self.target_agent), (self.value, self.target_value))
        for current, target in pairs:
            for ours, theirs in zip(current.parameters(), target.parameters(), strict=True):
                theirs.lerp_(ours, share)
            for own, other in zip(current.buffers(), target.buffers(), strict=True):
                other.copy_(own)

    def take_weights(self, state: Mapping[str, Tensor]) -> None:
        """See `Learner.take_weights`; the target network starts equal to the current one."""
        super().take_weights(state)
        self.updates_done.zero_()
        self.follow(1.0)
