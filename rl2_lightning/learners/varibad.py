"""VariBAD: a policy on the belief over a latent task (arXiv 1910.08348)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.belief import Belief
from rl2_lightning.data.actor import AgentActor
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.data.replay import MixedSource
from rl2_lightning.data.replay_settings import BufferSettings
from rl2_lightning.data.sources import TrialSource
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from rl2_lightning.families.places import Places
from rl2_lightning.families.play import Actor
from rl2_lightning.learners.decoder import Decoder, DecoderSettings, past_trials
from rl2_lightning.learners.elbo import Draw, draw_prefixes, elbo
from rl2_lightning.learners.learner import LearnerSettings, RunShape
from rl2_lightning.learners.manual import ManualLearner
from rl2_lightning.learners.ppo import PPO, PPOSettings
from rl2_lightning.learners.ranks import world_size
from rl2_lightning.learners.replaying import replay_on_rank
from rl2_lightning.settings import between, one_of

POLICY, BELIEF = 0, 1  # the optimisers
REMEDY = "lower learner.belief_learning_rate"
NUM_SAMPLES = 256  # of a belief, for the probabilities of goals
SAMPLES_SEED = 5


@dataclass
class PastTrialsSettings(BufferSettings):
    """Settings of the buffer of past trials."""

    stored = "trials"
    batch_size: int = between(1, default=32)


@dataclass
class VariBADSettings(PPOSettings):
    """Settings of VariBAD; those of PPO are for policy and critic.

    Attributes:
        decoder: settings of the decoders.
        replay: settings of the buffer of past trials.
        belief_learning_rate: Adam's learning rate for encoder, memory and decoders at the start.
        final_belief_learning_rate: that at the end of the run; linear schedule.
        num_updates: minibatches of past trials in an iteration.
        kl_coefficient: weight of the KL divergence in the evidence lower bound.
        prior: what a belief is kept close to: "previous", the belief one step earlier, or
            "standard", the standard normal distribution.
        decoded_steps: "trial" for all steps of a trial, or "episode" for those of the episode in
            which the prefix ends.
        num_prefixes: prefixes of a trial that are decoded, drawn anew each time; None for all.
    """

    decoder: DecoderSettings = field(default_factory=DecoderSettings)
    replay: PastTrialsSettings = field(default_factory=PastTrialsSettings)
    belief_learning_rate: float = between(0, 1e30, default=1e-3)
    final_belief_learning_rate: float = between(0, 1e30, default=0.0)
    num_updates: int = between(1, default=16)
    kl_coefficient: float = between(0, 1e30, default=0.1)
    prior: str = one_of("previous", "standard", default="previous")
    decoded_steps: str = one_of("trial", "episode", default="trial")
    num_prefixes: int | None = between(1, default=None)

    def check_run(self, run: RunShape) -> None:
        """See `LearnerSettings.check_run`."""
        super().check_run(run)
        self.replay.check_run(run.num_trials, run.num_ranks)
        if run.expected_rewards and self.decoder.decodes_positive_rewards:
            raise UserError(
                "learner.decoder.reward_likelihood=bernoulli with collection.expected_rewards=true"
                ": whether the mean of a reward is positive is not whether the drawn one is; set "
                "collection.expected_rewards=false"
            )


class VariBAD(ManualLearner, PPO):
    """PPO on the agent's belief, which is learnt by decoding past trials.

    Two losses, each with an optimiser of its own, alternate. PPO's loss trains the policy and the
    critic on this iteration's windows, with the features that the agent had when it played: no
    gradient reaches encoder and memory. The evidence lower bound trains these and the decoders on
    whole trials from a buffer of past ones; see `elbo`. The decoders belong to the learner, so the
    agent acts without them.

    Args:
        agent: the agent to train, which has a belief.
        settings: the hyper-parameters.
        plan: what the run will collect.
        task_sizes: number of elements of each task parameter, by (dotted) name.
        places: the places of the family; None if it has none.

    Raises:
        UserError: the agent has no belief.

    Attributes:
        decoder: the decoders.
        played: what is kept of this iteration's trials, `[B]`.
    """

    Settings: ClassVar[type[LearnerSettings]] = VariBADSettings
    reads_places = True
    rate_fields = ("learner.learning_rate", "learner.belief_learning_rate")
    gradient_names = ("gradient_norm", "belief_gradient_norm")

    def __init__(
        self,
        agent: Agent,
        settings: VariBADSettings,
        *,
        plan: CollectionPlan,
        task_sizes: Mapping[str, int],
        places: Places | None,
    ) -> None:
        super().__init__(agent, settings, plan=plan, task_sizes=task_sizes)
        if agent.spec.settings.belief.form == "none":
            raise UserError(
                "learner=varibad with agent.belief.form=none: it learns a belief; use agent=belief"
            )
        self.settings: VariBADSettings = settings
        self.decoder = Decoder(agent.spec, settings.decoder, task_sizes, places)
        self.played: TensorDictBase
        self._draw_seed: Callable[[int], int]
        self._num_drawn = 0

    def make_source(
        self,
        collect: Callable[[], TensorDictBase],
        shuffle_seed: Callable[[int], int],
    ) -> TrialSource:
        """This iteration's windows, and past trials between them; see `Learner.make_source`."""
        super().make_source(collect, shuffle_seed)
        settings = self.settings
        first_draw = settings.num_epochs + settings.num_updates
        self._draw_seed = lambda draw: shuffle_seed(first_draw + draw)
        past = replay_on_rank(
            lambda: self.played,
            lambda draw: shuffle_seed(settings.num_epochs + draw),
            settings.replay,
            settings.num_updates,
        )
        return MixedSource(self.fresh, past)

    def make_actor(self, generator: torch.Generator) -> Actor:
        """The agent, whose features are stored; see `Learner.make_actor`."""
        return AgentActor(self.agent, generator, keeps_features=True)

    def configure_optimizers(self) -> list[torch.optim.Optimizer]:
        """Adam over policy and critic, and Adam over encoder, memory and decoders."""
        agent, epsilon = self.agent, self.settings.adam_epsilon
        of_policy = [*agent.policy.parameters(), *self.critic.parameters()]
        of_belief = [
            parameter
            for module in (agent.encoder, agent.memory, self.decoder)
            for parameter in module.parameters()
        ]
        return [
            torch.optim.Adam(of_policy, lr=self.settings.learning_rate, eps=epsilon),
            torch.optim.Adam(of_belief, lr=self.settings.belief_learning_rate, eps=epsilon),
        ]

    def on_train_epoch_start(self) -> None:
        """Set the learning rates and the entropy coefficient of the iteration."""
        super().on_train_epoch_start()
        settings = self.settings
        rate = self.linear(settings.belief_learning_rate, settings.final_belief_learning_rate)
        for group in self.trainer.optimizers[BELIEF].param_groups:
            group["lr"] = rate
        self.log_iteration({"train/belief_learning_rate": rate})
        self._num_drawn = 0

    @torch.no_grad()
    def prepare(self, trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
        """Add what PPO needs, keep the features, and set trials aside for the buffer."""
        features = trials.get(keys.STEPS).get(keys.FEATURES)
        prepared = super().prepare(trials, state_steps)
        steps = prepared.get(keys.STEPS)
        steps.set(keys.FEATURES, features.masked_fill(~steps.get(keys.MASK), 0))
        with_tasks = self.settings.decoder.task_coefficient > 0
        self.played = past_trials(prepared, with_tasks=with_tasks)
        return prepared

    def features_of(self, minibatch: TensorDictBase) -> Tensor:
        """The features that the agent had when it played, without gradients, `[N, W, H]`."""
        features: Tensor = minibatch.get(keys.WINDOW).get(keys.FEATURES)
        return features

    def training_step(self, minibatch: TensorDictBase, batch_index: int) -> None:
        """Update the belief on past trials, which have an `index`, or the policy on windows."""
        if keys.INDEX not in minibatch.keys():  # noqa: SIM118 - not a dictionary
            self.step(POLICY, self.window_loss(minibatch))
            return
        belief = self.beliefs_of(minibatch)
        generator = torch.Generator(self.device).manual_seed(self._draw_seed(self._num_drawn))
        self._num_drawn += 1
        draw = draw_prefixes(belief, self.settings.num_prefixes, generator)
        self.step(BELIEF, self.belief_loss(belief, minibatch, draw))

    def beliefs_of(self, trials: TensorDictBase) -> Belief:
        """The beliefs before each step of past trials, `[N, T, D]`, with gradients."""
        steps = trials.get(keys.WINDOW)
        return self.agent.beliefs(inputs_of(steps), steps.get(keys.MASK))

    def belief_loss(self, belief: Belief, trials: TensorDictBase, draw: Draw) -> Tensor:
        """The negative evidence lower bound of past trials `[N]`, `[]`; see `elbo`."""
        settings = self.settings
        bound, diagnostics = elbo(
            belief,
            self.decoder,
            trials,
            draw,
            kl_coefficient=settings.kl_coefficient,
            to_previous=settings.prior == "previous",
            within_episodes=settings.decoded_steps == "episode",
        )
        if world_size() == 1:
            # With several ranks, the check of the shared gradient stops all of them together.
            self.require_finite("the evidence lower bound", bound, REMEDY)
        self.note({"elbo": bound, **diagnostics})
        return -bound

    @torch.no_grad()
    def goal_probabilities(self, belief: Belief) -> Tensor:
        """The probabilities of each place to be the goal, `[..., P]`; see `Decoder`.

        Args:
            belief: beliefs, `[..., D]`.
        """
        mean = belief.mean
        generator = torch.Generator(mean.device).manual_seed(SAMPLES_SEED)
        shape = (NUM_SAMPLES, *[1] * (mean.ndim - 1), mean.shape[-1])
        noise = torch.randn(shape, generator=generator, device=mean.device)
        return self.decoder.goal_probabilities(belief.at(noise))
