"""The evidence lower bound of trials from each of their prefixes (arXiv 1910.08348, equation 5)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from rl2_lightning import keys
from rl2_lightning.agents.belief import Belief
from rl2_lightning.learners.decoder import Decoder


class Draw(NamedTuple):
    """The prefixes of N trials whose latents are decoded, and the noise of these latents.

    Attributes:
        prefixes: steps before which a prefix ends, `[N, K]`, int64.
        noise: values of a standard normal distribution, `[N, K, D]`.
    """

    prefixes: Tensor
    noise: Tensor


def draw_prefixes(belief: Belief, num_prefixes: int | None, generator: torch.Generator) -> Draw:
    """Draw K of the T prefixes of each trial without replacement, and the noise of their latents.

    Args:
        belief: the beliefs before each step, `[N, T, D]`.
        num_prefixes: K; None for all of them in order.
        generator: source of the draw, on the device of the belief.
    """
    num_trials, num_steps, size = belief.mean.shape
    device = belief.mean.device
    if num_prefixes is None or num_prefixes >= num_steps:
        prefixes = torch.arange(num_steps, device=device).expand(num_trials, -1)
    else:
        order = torch.rand(num_trials, num_steps, generator=generator, device=device)
        prefixes = order.argsort(dim=1)[:, :num_prefixes]
    shape = (*prefixes.shape, size)
    return Draw(prefixes, torch.randn(shape, generator=generator, device=device))


def kl_to_prior(belief: Belief, *, to_previous: bool) -> Tensor:
    """The KL divergence of each belief from its prior, `[N, T]`.

    Args:
        belief: the beliefs before each step, `[N, T, D]`.
        to_previous: whether the prior is the belief one step earlier, and the standard normal
            distribution only at the first step; otherwise it is the latter at every step.
    """
    mean, log_variance = belief
    prior_mean, prior_log_variance = torch.zeros_like(mean), torch.zeros_like(mean)
    if to_previous:
        prior_mean = torch.cat([prior_mean[:, :1], mean[:, :-1]], dim=1)
        prior_log_variance = torch.cat([prior_log_variance[:, :1], log_variance[:, :-1]], dim=1)
    posterior, prior = (
        Normal(centre, (0.5 * spread).exp(), validate_args=False)
        for centre, spread in ((mean, log_variance), (prior_mean, prior_log_variance))
    )
    return kl_divergence(posterior, prior).sum(dim=-1)


def elbo(
    belief: Belief,
    decoder: Decoder,
    trials: TensorDictBase,
    draw: Draw,
    *,
    kl_coefficient: float,
    to_previous: bool,
    within_episodes: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The mean over trials and steps of the evidence lower bound from the prefix before the step.

    The bound of a prefix is the weighted sum of the log-likelihoods of the whole trial, past and
    future, given a latent from the belief after the prefix, minus the weighted KL divergence of
    this belief from its prior. The sum over the prefixes is divided by N T, whatever the lengths of
    the trials. Idle steps neither have bounds nor are decoded. If only K prefixes are decoded, the
    log-likelihoods stand for those of all T.

    Args:
        belief: the beliefs before each step, `[N, T, D]`.
        decoder: the decoder.
        trials: `[N]`; see `past_trials`.
        draw: the prefixes that are decoded, and their noise.
        kl_coefficient: weight of the KL divergence.
        to_previous: see `kl_to_prior`.
        within_episodes: whether only the steps of the episode in which a prefix ends are decoded.

    Returns:
        The bound, `[]`, and diagnostics, `[]` each: the mean KL divergence of a step, the mean
        log-likelihood of a decoded reward or observation, and that of the task.
    """
    steps = trials.get(keys.WINDOW)
    mask = steps.get(keys.MASK).squeeze(-1)
    ends = mask.gather(1, draw.prefixes)
    counted = _decoded_steps(steps, draw.prefixes, within_episodes)
    index = draw.prefixes.unsqueeze(-1).expand(-1, -1, belief.mean.shape[-1])
    latents = Belief(*(moment.gather(1, index) for moment in belief)).at(draw.noise)
    found = decoder.log_likelihoods(latents, trials, counted)
    kl = kl_to_prior(belief, to_previous=to_previous).masked_fill(~mask, 0)
    bound = -kl_coefficient * kl.sum() / kl.numel()
    diagnostics = {"belief_kl": kl.sum() / mask.sum().clamp(min=1)}
    for name, each in found.items():
        total = each.masked_fill(~ends, 0).sum()
        bound = bound + decoder.settings.coefficients[name] * total / ends.numel()
        number = ends.sum() if name == "task" else counted.sum()
        diagnostics[f"{name}_log_likelihood"] = total / number.clamp(min=1)
    return bound, diagnostics


def _decoded_steps(steps: TensorDictBase, prefixes: Tensor, within_episodes: bool) -> Tensor:
    """Which steps are decoded from which prefix, `[N, K, T]`, bool; see `elbo`.

    Args:
        steps: `[N, T]`.
        prefixes: `[N, K]`.
        within_episodes: see `elbo`.
    """
    mask, episodes = steps.get(keys.MASK).squeeze(-1), steps.get(keys.EPISODE).squeeze(-1)
    counted = mask.gather(1, prefixes).unsqueeze(2) & mask.unsqueeze(1)
    if within_episodes:
        counted &= episodes.gather(1, prefixes).unsqueeze(2) == episodes.unsqueeze(1)
    return counted
