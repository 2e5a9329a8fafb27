"""Action values of tabular MDPs by backward induction over the steps of an episode."""

import torch
from torch import Tensor

from rl2_lightning.families.tabular_mdp.posterior import Model


def value_iteration(
    model: Model, horizon: int, bonus_per_step_to_go: Tensor | None = None
) -> Tensor:
    """Compute the values of all actions under the best policy, undiscounted.

    Args:
        model: B MDPs.
        horizon: H, the length of an episode, in env steps.
        bonus_per_step_to_go: bonus that is added to the reward once for each env step that follows,
            `[B, S, A]`, float32.

    Returns:
        Value of each action in each state at each step, `[H, B, S, A]`, float32. Equivalent actions
        get bitwise equal values, so that ties are preserved.
    """
    rewards, transitions = model
    action_values = rewards.expand(horizon, *rewards.shape).clone()
    for steps_to_go in range(1, horizon):
        following, present = action_values[-steps_to_go], action_values[-steps_to_go - 1]
        if bonus_per_step_to_go is not None:
            present.add_(bonus_per_step_to_go, alpha=steps_to_go)
        add_expectation(present, transitions, following.amax(-1))
    return action_values


def add_expectation(action_values: Tensor, transitions: Tensor, values: Tensor) -> None:
    """Add the expected value of the next state, in place.

    Args:
        action_values: `[B, S, A]`, float32.
        transitions: probabilities with the next state as first dimension, `[S, B, S, A]`, float32.
        values: value of each state, `[B, S]`, float32.
    """
    # On a CPU this is many times faster than a batch of such small matrix products. The order of
    # the summands is the same for all actions, so that ties are preserved.
    for probability, value in zip(transitions, values.unbind(-1), strict=True):
        action_values.addcmul_(probability, value[:, None, None])


def extended_value_iteration(model: Model, transition_slack: Tensor, horizon: int) -> Tensor:
    """Compute the values of all actions with transitions chosen optimistically.

    At each step of the induction, probability of half the slack is moved from the worst next states
    to the best one (Jaksch et al. 2010, figure 2). The next step starts from these probabilities,
    not from the model's, so that optimism grows with the steps to go. An exception are rows whose
    whole probability has moved to the best state: they keep their previous probabilities. This
    follows the published player; without it UCRL2 earns 1.5 % less than published in a trial of 100
    episodes.

    Args:
        model: B MDPs; the rewards are already optimistic.
        transition_slack: radius of the confidence set in the 1-norm, `[B, S, A]`, float32.
        horizon: H, the length of an episode, in env steps.

    Returns:
        Value of each action in each state at each step, `[H, B, S, A]`, float32.
    """
    rewards, transitions = model
    action_values = rewards.expand(horizon, *rewards.shape).clone()
    values = torch.zeros_like(rewards[..., 0])
    for present in reversed(action_values.unbind()):
        # Stable, so that ties give the same best state on every device.
        from_worst = values.argsort(dim=-1, stable=True).T
        optimistic, is_certain = _shift_to_best(transitions, transition_slack, from_worst)
        add_expectation(present, optimistic, values)
        transitions = torch.where(is_certain, transitions, optimistic)
        values = present.amax(-1)
    return action_values


def _shift_to_best(transitions: Tensor, slack: Tensor, from_worst: Tensor) -> tuple[Tensor, Tensor]:
    """Move probability from the worst next states to the best one.

    Args:
        transitions: probabilities with the next state as first dimension, `[S, B, S, A]`, float32.
        slack: `[B, S, A]`, float32.
        from_worst: the states by ascending value, `[S, B]`, int64.

    Returns:
        The new probabilities, `[S, B, S, A]`, and whether the best state is certain, `[B, S, A]`,
        bool.
    """
    rows = torch.arange(from_worst.shape[1], device=transitions.device)
    ordered = transitions[from_worst, rows]
    others, best = ordered[:-1], ordered[-1] + slack / 2
    is_certain = best > 1
    # Take all of the worst state's probability before any of the second worst's.
    up_to = others.cumsum(0)
    excess = up_to[-1:].sum(0) + best.clamp_(max=1) - 1
    others = others - (excess - (up_to - others)).clamp_min(0).minimum(others)
    shifted = torch.empty_like(transitions)
    shifted[from_worst, rows] = torch.cat((others, best.unsqueeze(0)))
    return shifted, is_certain
