"""Decoders: what a latent task predicts about the steps of its trial."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from tensordict import TensorDictBase
from torch import Tensor, nn
from torch.nn import functional

from rl2_lightning import keys
from rl2_lightning.agents.encoders.encoder import Encoder
from rl2_lightning.agents.encoders.images import IMAGE_DIMS
from rl2_lightning.agents.initialisation import fully_connected, initialise_linear
from rl2_lightning.agents.products import Linear
from rl2_lightning.agents.spec import AgentSpec
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from rl2_lightning.families.places import Places
from rl2_lightning.inputs import Inputs, Observation
from rl2_lightning.settings import POSITIVE, Settings, between, one_of


@dataclass
class DecoderSettings(Settings):
    """Settings of the decoders.

    Attributes:
        hidden_sizes: widths of the hidden layers of each decoder.
        reward_coefficient: weight of the rewards' log-likelihood; 0 for no such decoder.
        reward_likelihood: "normal" for the reward itself, with variance 1, or "bernoulli" for
            whether it is positive.
        state_coefficient: weight of the log-likelihood of the next observations, which are normal
            with variance 1; 0 for no such decoder.
        task_coefficient: weight of the task's log-likelihood: of its goal among the family's
            places, or, without places, of its parameters, which are normal with variance 1; 0 for
            no such decoder.
    """

    hidden_sizes: list[int] = field(default_factory=lambda: [32, 32], metadata=POSITIVE)
    reward_coefficient: float = between(0, 1e30, default=1.0)
    reward_likelihood: str = one_of("normal", "bernoulli", default="normal")
    state_coefficient: float = between(0, 1e30, default=0.0)
    task_coefficient: float = between(0, 1e30, default=0.0)

    @property
    def coefficients(self) -> dict[str, float]:
        """The weights of the log-likelihoods, by their names in `Decoder.log_likelihoods`."""
        names = ("reward", "state", "task")
        values = (self.reward_coefficient, self.state_coefficient, self.task_coefficient)
        return dict(zip(names, values, strict=True))

    @property
    def decodes_positive_rewards(self) -> bool:
        """Whether the probability of a positive reward is decoded."""
        return self.reward_coefficient > 0 and self.reward_likelihood == "bernoulli"

    def check(self) -> None:
        """See `Settings.check`."""
        if not any(self.coefficients.values()):
            raise UserError(
                "learner.decoder without anything to decode: set "
                "learner.decoder.reward_coefficient=1"
            )


class Decoder(nn.Module):
    """Log-likelihoods of rewards, next observations and the task, given latents.

    In a family with places, the reward of a step is decoded by a head for each place, from the
    latent alone (arXiv 1910.08348, appendix C); elsewhere from the latent, the action, and the
    observations before and after the step.

    Args:
        spec: the spec of the agent.
        settings: the settings.
        task_sizes: number of elements of each task parameter, by (dotted) name.
        places: the places of the family; None if it has none.

    Raises:
        UserError: next observations are images, or tasks have no parameters, and are to be decoded.
    """

    def __init__(
        self,
        spec: AgentSpec,
        settings: DecoderSettings,
        task_sizes: Mapping[str, int],
        places: Places | None,
    ) -> None:
        super().__init__()
        self.settings, self.places = settings, places
        self._task_names = sorted(task_sizes)
        size, hidden_sizes = spec.settings.belief.size, settings.hidden_sizes

        def encoder(*inputs: str) -> Encoder:
            return Encoder(spec.observations, spec.actions, inputs, ())

        if settings.reward_coefficient and places is not None:
            self.reward_heads = fully_connected(size, hidden_sizes, len(places))
        elif settings.reward_coefficient:
            self.reward_encoder = encoder("observation", "previous_action", "previous_observation")
            self.reward = LatentLayers(size, self.reward_encoder.output_size, hidden_sizes, 1)
        if settings.state_coefficient:
            num_outputs = _size_of_vectors(spec)
            self.state_encoder = encoder("previous_action", "previous_observation")
            encoded_size = self.state_encoder.output_size
            self.state = LatentLayers(size, encoded_size, hidden_sizes, num_outputs)
        if settings.task_coefficient:
            if not task_sizes:
                raise UserError(
                    f"learner.decoder.task_coefficient={settings.task_coefficient} but the tasks "
                    "of this family have no parameters: set learner.decoder.task_coefficient=0"
                )
            num_outputs = sum(task_sizes.values()) if places is None else len(places)
            self.task = fully_connected(size, hidden_sizes, num_outputs)

    @property
    def knows_goals(self) -> bool:
        """Whether `goal_probabilities` is available."""
        settings = self.settings
        knows = settings.task_coefficient > 0 or settings.decodes_positive_rewards
        return self.places is not None and knows

    def log_likelihoods(
        self, latents: Tensor, trials: TensorDictBase, counted: Tensor
    ) -> dict[str, Tensor]:
        """The log-likelihoods of what the settings name, without their constants.

        Args:
            latents: K latents of each trial, `[N, K, D]`.
            trials: `[N]`, with steps `[N, T]` as `window`; see `past_trials`.
            counted: which steps are decoded from which latent, `[N, K, T]`, bool.

        Returns:
            `[N, K]` each: summed over the steps for "reward" and "state", and that of the task for
            "task".
        """
        settings, steps, found = self.settings, trials.get(keys.WINDOW), {}
        if settings.reward_coefficient:
            each = self._of_rewards(latents, steps)
            found["reward"] = each.masked_fill(~counted, 0).sum(dim=-1)
        if settings.state_coefficient:
            each = self._of_states(latents, steps)
            found["state"] = each.masked_fill(~counted, 0).sum(dim=-1)
        if settings.task_coefficient:
            found["task"] = self._of_tasks(latents, trials.get(keys.TASK))
        return found

    def goal_probabilities(self, latents: Tensor) -> Tensor:
        """The probabilities of each place to be the goal, `[..., P]`.

        They are those of the task's decoder, if there is one, and otherwise the probabilities of a
        positive reward there, divided by their sum.

        Args:
            latents: samples of beliefs, `[S, ..., D]`, over which the probabilities are averaged.
        """
        if self.settings.task_coefficient:
            return self.task(latents).float().softmax(dim=-1).mean(dim=0)
        positive = self.reward_heads(latents).float().sigmoid().mean(dim=0)
        return positive / positive.sum(dim=-1, keepdim=True)

    def _of_rewards(self, latents: Tensor, steps: TensorDictBase) -> Tensor:
        """The log-likelihood of each step's reward given each latent, `[N, K, T]`."""
        if self.places is not None:
            reached = self.places.of_observations(steps.get(keys.NEXT_OBSERVATION)).unsqueeze(1)
            heads = self.reward_heads(latents)
            predicted = heads.gather(-1, reached.expand(-1, latents.shape[1], -1))
        else:
            encoded = self.reward_encoder(_after(steps), steps.get(keys.MASK))
            predicted = self.reward(latents, encoded).squeeze(-1)
        predicted = predicted.to(latents.dtype)
        rewards = steps.get(keys.REWARD).squeeze(-1).unsqueeze(1).to(latents.dtype)
        if self.settings.reward_likelihood == "normal":
            return -0.5 * (predicted - rewards).square()
        is_positive = (rewards > 0).to(latents.dtype).expand_as(predicted)
        return -functional.binary_cross_entropy_with_logits(
            predicted, is_positive, reduction="none"
        )

    def _of_states(self, latents: Tensor, steps: TensorDictBase) -> Tensor:
        """The log-likelihood of each step's next observation given each latent, `[N, K, T]`."""
        encoded = self.state_encoder(_after(steps), steps.get(keys.MASK))
        predicted = self.state(latents, encoded).to(latents.dtype)
        reached = _as_vectors(steps.get(keys.NEXT_OBSERVATION)).unsqueeze(1).to(latents.dtype)
        return -0.5 * (predicted - reached).square().sum(dim=-1)

    def _of_tasks(self, latents: Tensor, tasks: TensorDictBase) -> Tensor:
        """The log-likelihood of each trial's task given each latent, `[N, K]`."""
        predicted = self.task(latents).to(latents.dtype)
        if self.places is not None:
            goals = self.places.of_tasks(tasks).view(-1, 1, 1).expand(-1, latents.shape[1], -1)
            return predicted.log_softmax(dim=-1).gather(-1, goals).squeeze(-1)
        flat = tasks.flatten_keys()
        parts = [flat.get(name).reshape(len(flat), -1).float() for name in self._task_names]
        return -0.5 * (predicted - torch.cat(parts, dim=-1).unsqueeze(1)).square().sum(dim=-1)


class LatentLayers(nn.Module):
    """Layers on each pair of a latent and a step, each hidden one followed by a ReLU.

    The first layer is a sum of two terms, computed once for each latent and once for each step.

    Args:
        latent_size: D.
        step_size: X, width of a step's encoding.
        hidden_sizes: widths of the hidden layers.
        num_outputs: width of the output.
    """

    def __init__(
        self, latent_size: int, step_size: int, hidden_sizes: list[int], num_outputs: int
    ) -> None:
        super().__init__()
        first, *rest = [*hidden_sizes, num_outputs]
        gain = 2**0.5 if rest else 1.0
        self.of_latent = Linear(latent_size, first)
        self.of_step = Linear(step_size, first, bias=False)
        initialise_linear(self.of_latent, gain)
        initialise_linear(self.of_step, gain)
        self.layers = nn.Sequential()
        if rest:
            self.layers = nn.Sequential(nn.ReLU(), *fully_connected(first, rest[:-1], rest[-1]))

    def forward(self, latents: Tensor, steps: Tensor) -> Tensor:
        """From latents `[N, K, D]` and steps `[N, T, X]` to `[N, K, T, outputs]`."""
        terms = self.of_latent(latents).unsqueeze(2) + self.of_step(steps).unsqueeze(1)
        outputs: Tensor = self.layers(terms)
        return outputs


def past_trials(trials: TensorDictBase, *, with_tasks: bool) -> TensorDictBase:
    """What the decoders need of whole trials.

    Args:
        trials: `[B]`, as `families.play.play` returns them, with idle steps set to zero.
        with_tasks: whether they need the parameters of the tasks, too.

    Returns:
        `[B]`, with the steps `[B, T]` as `window`, to which the observation after each step is
        added: at the end of an episode the last one of that episode, not the first of the next.
    """
    steps = trials.get(keys.STEPS)
    names = [*Inputs._fields, keys.ACTION, keys.REWARD, keys.EPISODE, keys.MASK]
    kept = steps.select(*names)
    kept.set(keys.NEXT_OBSERVATION, _next_observations(steps, trials.get(keys.LAST_OBSERVATION)))
    found = trials.select(*([keys.TASK] if with_tasks else []))
    return found.set(keys.WINDOW, kept)


def _next_observations(steps: TensorDictBase, last: Tensor | TensorDictBase) -> Observation:
    """The observation after each step, `[B, T, *observation]`.

    Args:
        steps: `[B, T]`.
        last: the last observation of each episode, `[B, E, *observation]`.
    """
    ends = (steps.get(keys.EPISODE_DONE) | steps.get(keys.DONE)).squeeze(-1)
    rows = torch.arange(len(steps), device=steps.device).unsqueeze(1)

    def follow(shown: Tensor, lasts: Tensor) -> Tensor:
        episode = steps.get(keys.EPISODE).squeeze(-1).clamp(max=lasts.shape[1] - 1)
        following = torch.cat([shown[:, 1:], shown[:, -1:]], dim=1)
        is_end = ends.view(*ends.shape, *[1] * (shown.ndim - 2))
        return torch.where(is_end, lasts[rows, episode], following)

    shown = steps.get(keys.OBSERVATION)
    if isinstance(last, Tensor):
        return follow(shown, last)
    return {name: follow(entry, last.get(name)) for name, entry in shown.items()}


def _after(steps: TensorDictBase) -> Inputs:
    """What an agent sees after each step, with the step's observation as the previous one."""
    before = inputs_of(steps)
    following = steps.get(keys.NEXT_OBSERVATION)
    return before._replace(
        observation=following if isinstance(following, Tensor) else dict(following.items()),
        previous_action=steps.get(keys.ACTION),
        previous_observation=before.observation,
    )


def _size_of_vectors(spec: AgentSpec) -> int:
    """The number of elements of an observation.

    Raises:
        UserError: it has an image.
    """
    shown = spec.observations
    boxes = list(shown.values()) if isinstance(shown, dict) else [shown]
    if any(len(box.shape) == IMAGE_DIMS for box in boxes):
        raise UserError(
            "learner.decoder.state_coefficient decodes the next observation, and this family's is "
            "an image: set learner.decoder.state_coefficient=0"
        )
    return sum(box.size for box in boxes)


def _as_vectors(observation: Tensor | TensorDictBase) -> Tensor:
    """Observations of vectors as one, `[N, T, O]`."""
    parts = [observation] if isinstance(observation, Tensor) else list(observation.values())
    return torch.cat([part.flatten(2).float() for part in parts], dim=-1)
