"""Credit assignment within a trial, across episode boundaries."""

from collections.abc import Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.objectives.value.functional import generalized_advantage_estimate

from rl2_lightning import keys
from rl2_lightning.data.windows import are_shared


def valued_steps(steps: TensorDictBase) -> Tensor:
    """Where a value is needed, `[B, T, 1]`, bool: where trials are played, and after a cut.

    Args:
        steps: `[B, T]`.
    """
    mask = steps.get(keys.MASK)
    follows = torch.zeros_like(mask)
    # The step after a cut is idle, but its value is needed for bootstrapping.
    follows[:, 1:] = (mask & ~steps.get(keys.TERMINATED))[:, :-1]
    return mask | follows


def clear_idle_steps(trials: TensorDictBase, state_steps: Sequence[int]) -> TensorDictBase:
    """Set the entries of idle steps to zero, so that not even a NaN in them has an effect.

    The first step after a cut, whose value is needed, is left as it is.

    Args:
        trials: `[B]`, with steps `[B, T]`.
        state_steps: steps before which states of memories were stored.
    """
    steps = trials.get(keys.STEPS)
    mask = steps.get(keys.MASK)
    if mask.all():
        return trials
    cleared = trials.copy().set(keys.STEPS, clear(steps, valued_steps(steps)))
    for name in (keys.MEMORY_STATE, keys.CRITIC_STATE):
        states = trials.get(name, None)
        # Those at the start of trials are kept as they are: no trial is idle there.
        if states is not None and not are_shared(states):
            cleared.set(name, clear(states, mask[:, list(state_steps)]))
    return cleared


def clear(entries: TensorDictBase, mask: Tensor) -> TensorDictBase:
    """The entries `[B, T]`, set to zero where the mask, `[B, T, 1]`, bool, is false."""
    return entries.apply(
        lambda entry: entry.masked_fill(~mask.view(*mask.shape[:2], *[1] * (entry.ndim - 2)), 0)
    )


def trial_advantages(
    steps: TensorDictBase, values: Tensor, *, gamma: float | Tensor, gae_lambda: float | Tensor
) -> tuple[Tensor, Tensor]:
    """Generalised advantage estimation over whole trials (arXiv 1506.02438, equation 16).

    The trial is the trajectory: the end of an episode cuts neither advantages nor values.

    Args:
        steps: `[B, T]`, idle ones set to zero.
        values: `[B, T, 1]`, in units of the reward; zero after a trial that terminated.
        gamma: discount of one env step; a tensor, `[]`, can be differentiated by.
        gae_lambda: GAE's λ, the weight of longer returns; likewise.

    Returns:
        Advantages and value targets, `[B, T, 1]` each, in units of the reward.
    """
    following = torch.cat([values[:, 1:], torch.zeros_like(values[:, :1])], dim=1)
    # TorchRL would convert Python numbers to the default dtype.
    discount, decay = (
        number.to(values) if isinstance(number, Tensor) else values.new_full((), number)
        for number in (gamma, gae_lambda)
    )
    advantages, targets = generalized_advantage_estimate(
        discount,
        decay,
        values,
        following,
        steps.get(keys.REWARD),
        steps.get(keys.DONE),
        steps.get(keys.TERMINATED),
    )
    return advantages, targets


def discount_derivatives(
    steps: TensorDictBase, values: Tensor, *, gamma: float, gae_lambda: float
) -> tuple[Tensor, Tensor]:
    """The derivatives of what `trial_advantages` returns with respect to γ and λ.

    Args:
        steps: `[B, T]`, idle ones set to zero.
        values: `[B, T, 1]`, in units of the reward; they do not depend on γ and λ.
        gamma: discount of one env step.
        gae_lambda: GAE's λ.

    Returns:
        Those of the advantages and of the value targets, `[B, T, 2]` each.
    """

    def credit(gamma: Tensor, gae_lambda: Tensor) -> tuple[Tensor, Tensor]:
        return trial_advantages(steps, values, gamma=gamma, gae_lambda=gae_lambda)

    at = values.new_tensor([gamma, gae_lambda])
    directions = torch.eye(2, dtype=at.dtype, device=at.device)
    columns = [torch.func.jvp(credit, tuple(at), tuple(one))[1] for one in directions]
    of_advantages, of_targets = zip(*columns, strict=True)
    return torch.cat(of_advantages, dim=-1), torch.cat(of_targets, dim=-1)


def off_policy_advantages(
    steps: TensorDictBase,
    values: Tensor,
    log_ratios: Tensor,
    *,
    gamma: float,
    gae_lambda: float,
    is_v_trace: bool,
) -> tuple[Tensor, Tensor]:
    """Advantages and value targets of trials that an older policy has played.

    With weights ρ = min(1, π/μ), errors δ = r + γ V' - V and sums S = ρ (δ + γ λ S') over the later
    steps, the targets are V + S (arXiv 1802.01561, equation 1 and remark 2). The advantages are
    δ + γ S' for V-trace, and δ + γ λ S' for generalised advantage estimation. They are without the
    weight of their own step, since the loss multiplies them with π/μ. With π = μ the latter is
    `trial_advantages`.

    Args:
        steps: `[N, W]`, with idle steps set to zero.
        values: values before the steps and after the last one, `[N, W + 1, 1]`, in units of the
            reward; zero where the trial has terminated.
        log_ratios: logarithms of π/μ, `[N, W, 1]`.
        gamma: discount of one env step.
        gae_lambda: λ, the weight of longer returns.
        is_v_trace: whether to return the advantages of V-trace.

    Returns:
        Advantages and value targets, `[N, W, 1]` each, in units of the reward.
    """
    reward, weight = steps.get(keys.REWARD), log_ratios.exp().clamp(max=1)
    going_on = (~steps.get(keys.DONE)).to(values.dtype)
    bootstrapped = values[:, 1:] * (~steps.get(keys.TERMINATED)).to(values.dtype)
    errors = reward + gamma * bootstrapped - values[:, :-1]
    sums = torch.zeros_like(values)
    for t in reversed(range(errors.shape[1])):
        later = gamma * gae_lambda * going_on[:, t] * sums[:, t + 1]
        sums[:, t] = weight[:, t] * (errors[:, t] + later)
    decay = gamma if is_v_trace else gamma * gae_lambda
    advantages = errors + decay * going_on * sums[:, 1:]
    return advantages, values[:, :-1] + sums[:, :-1]


def n_step_returns(
    steps: TensorDictBase, values: Tensor, *, gamma: float, num_steps: int, length: int
) -> Tensor:
    """The discounted rewards of the next n steps, and the value after them.

    Near the end of a trial the sum is over the steps that are left.

    Args:
        steps: `[N, W + n]`, with idle steps set to zero.
        values: values before the steps, `[N, W + n, 1]`, in units of the reward.
        gamma: discount of one env step.
        num_steps: n.
        length: W, number of steps to return.

    Returns:
        `[N, W, 1]`, in units of the reward.
    """
    reward, done = steps.get(keys.REWARD), steps.get(keys.DONE)
    mask, terminated = steps.get(keys.MASK), steps.get(keys.TERMINATED)
    returns = torch.zeros_like(reward[:, :length])
    weight = torch.ones_like(returns)
    for k in range(num_steps):
        at = slice(k, k + length)
        returns += weight * reward[:, at]
        # A trial that was cut ends here with the value of the step after it.
        is_cut = done[:, at] & ~terminated[:, at] & mask[:, at]
        following = values[:, k + 1 : k + 1 + length]
        returns += gamma * weight * is_cut * following
        weight = gamma * weight * ~done[:, at]
    return returns + weight * values[:, num_steps : num_steps + length]
