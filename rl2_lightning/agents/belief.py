"""Beliefs: the features of a memory as a normal distribution over a latent task."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from rl2_lightning.agents.encoders.normaliser import RunningSpread
from rl2_lightning.agents.initialisation import initialise_linear
from rl2_lightning.agents.memories.memory import Memory, State, shared_zeros
from rl2_lightning.agents.products import Linear
from rl2_lightning.agents.settings import BeliefSettings

LARGEST_LOG_VARIANCE = 10.0  # of either sign, so that no variance overflows or vanishes
NUM_DRAWS = 4096  # of a normal distribution, from which samples take their noise in turn
DRAWS_SEED = 19100834


class Belief(NamedTuple):
    """Independent normal distributions of the D numbers of a latent task.

    Attributes:
        mean: `[..., D]`.
        log_variance: logarithm of the variance, `[..., D]`.
    """

    mean: Tensor
    log_variance: Tensor

    def at(self, noise: Tensor) -> Tensor:
        """The latents `[..., D]` at values of a standard normal distribution, `[..., D]`."""
        return self.mean + (0.5 * self.log_variance).exp() * noise


class BeliefMemory(Memory):
    """A memory whose features are a belief: the posterior of a latent task (arXiv 1910.08348).

    Policy and value get the belief alone: its mean and the logarithm of its variance, `[B, 2 D]`,
    or a sample of it, `[B, D]`, drawn in each step; by choice in units of their running spread.

    Samples need noise that is the same in a step and in a window. The state therefore contains a
    number for each trial, `[B, 1]`, int64: the place in a fixed table of draws, which moves on with
    each step. With 0, the initial state, there is no noise, and the sample is the mean; see
    `with_noise`.

    Args:
        inner: the memory that the belief is computed from.
        settings: size and form of the belief.
    """

    draws: Tensor

    def __init__(self, inner: Memory, settings: BeliefSettings) -> None:
        super().__init__()
        self.inner = inner
        self.is_sampled = settings.form == "samples"
        self.output_size = settings.size if self.is_sampled else 2 * settings.size
        self.spread = RunningSpread(self.output_size, centred=True) if settings.normalised else None
        self.belief = Linear(inner.output_size, 2 * settings.size)
        initialise_linear(self.belief, gain=1.0)
        if self.is_sampled:
            generator = torch.Generator().manual_seed(DRAWS_SEED)
            draws = torch.randn(NUM_DRAWS, settings.size, generator=generator, device="cpu")
            nothing = torch.zeros(1, settings.size, device="cpu")
            self.register_buffer("draws", torch.cat([nothing, draws]), persistent=False)

    def initial_state(self, num: int) -> State:
        """The inner memory's initial state, and no noise; see `Memory.initial_state`."""
        state = self.inner.initial_state(num)
        if not self.is_sampled:
            return state
        none = shared_zeros(num, 1, device=self.draws.device, dtype=torch.int64)
        return (*state, none)

    def with_noise(self, state: State, generator: torch.Generator) -> State:
        """See `Memory.with_noise`."""
        inner = self.inner.with_noise(self._inner_state(state), generator)
        if not self.is_sampled:
            return inner
        place = state[-1]
        drawn = torch.randint(
            1, NUM_DRAWS + 1, place.shape, generator=generator, device=place.device
        )
        return (*inner, drawn)

    def step(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.step`."""
        hidden, inner = self.inner.step(encoding, self._inner_state(state))
        belief = self._belief_of(hidden)
        if not self.is_sampled:
            return self._shown(torch.cat(belief, dim=-1)), inner
        place = state[-1]
        sample = belief.at(self.draws[place.squeeze(1)])
        return self._shown(sample), (*inner, _moved(place, 1))

    def unroll_trial(self, encoding: Tensor, state: State) -> tuple[Tensor, State]:
        """See `Memory.unroll_trial`."""
        hidden, inner = self.inner.unroll_trial(encoding, self._inner_state(state))
        belief = self._belief_of(hidden)
        if not self.is_sampled:
            return self._shown(torch.cat(belief, dim=-1)), inner
        place, num_steps = state[-1], encoding.shape[1]
        places = _moved(place, torch.arange(num_steps, device=place.device))
        return self._shown(belief.at(self.draws[places])), (*inner, _moved(place, num_steps))

    def require_steps(self, num_steps: int) -> None:
        """See `Memory.require_steps`."""
        self.inner.require_steps(num_steps)

    def beliefs(self, encoding: Tensor) -> Belief:
        """The beliefs before each step of whole trials, `[B, T, D]`.

        Args:
            encoding: `[B, T, I]`, float.
        """
        hidden, _ = self.inner.unroll_trial(encoding, self.inner.initial_state(len(encoding)))
        return self._belief_of(hidden)

    def to_measure(self, belief: Belief) -> Tensor:
        """The numbers `[..., output_size]` whose spread is the unit of what policy and value get.

        That of samples is the spread of the means, so that measuring needs no noise.
        """
        return belief.mean if self.is_sampled else torch.cat(belief, dim=-1)

    def _shown(self, numbers: Tensor) -> Tensor:
        """What policy and value get of a belief, or of a sample."""
        if self.spread is None:
            return numbers
        shown: Tensor = self.spread(numbers)
        return shown

    def _inner_state(self, state: State) -> State:
        return state[:-1] if self.is_sampled else state

    def _belief_of(self, hidden: Tensor) -> Belief:
        with torch.autocast(hidden.device.type, enabled=False):
            # Of two beliefs in succession, a rounded difference would be the whole divergence.
            mean, log_variance = self.belief(hidden.float()).chunk(2, dim=-1)
        limit = LARGEST_LOG_VARIANCE
        return Belief(mean, limit * (log_variance / limit).tanh())


def _moved(place: Tensor, steps: Tensor | int) -> Tensor:
    """The places after some steps, `[B, T]`, cyclic; 0 stays where it is.

    Args:
        place: `[B, 1]`.
        steps: number of steps, `[T]`, or one number.
    """
    return torch.where(place > 0, (place - 1 + steps) % NUM_DRAWS + 1, 0)
