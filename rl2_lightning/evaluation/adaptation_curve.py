"""The adaptation curve: the mean return of episode 1, 2, … of a trial, with an interval."""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from rl2_lightning.means import ColumnMeans

LARGE = 1e6  # from here on, a return is shown with an exponent


@dataclass(frozen=True, eq=False)
class Curve:
    """The mean returns of a player on a set of tasks, with the 95 % intervals of the means.

    The mean of an episode that no trial reached is NaN, and so is the interval of a mean over fewer
    than two trials.

    Attributes:
        mean: mean return of each episode over the trials that reached it, `[E]`, float64, CPU.
        half_width: 1.96 standard errors of each mean, `[E]`, float64, CPU.
        trial_return: mean over the trials of the sum of all their episodes' returns.
        trial_half_width: 1.96 standard errors of `trial_return`.
        num_trials: number of trials played.
    """

    mean: Tensor
    half_width: Tensor
    trial_return: float
    trial_half_width: float
    num_trials: int

    def share_of(self, reference: "Curve") -> float | None:
        """This trial return over the reference's; None if one of them is not positive."""
        if not min(self.trial_return, reference.trial_return) > 0:
            return None
        return self.trial_return / reference.trial_return

    def trial_text(self) -> str:
        """The trial return and its interval as text, to two digits of the interval.

        Large numbers are shortened.
        """
        if not self.trial_half_width > 0:
            return f"{self.trial_return:.4g}"
        if max(abs(self.trial_return), self.trial_half_width) >= LARGE:
            return f"{self.trial_return:.4g} ± {self.trial_half_width:.2g}"
        decimals = max(0, 1 - math.floor(math.log10(self.trial_half_width)))
        return f"{self.trial_return:.{decimals}f} ± {self.trial_half_width:.{decimals}f}"

    def to_dict(self) -> dict[str, float | int | None]:
        """The trial's numbers for JSON; None for what was not measured."""
        return {
            "trial_return": _number_or_none(self.trial_return),
            "trial_half_width": _number_or_none(self.trial_half_width),
            "num_trials": self.num_trials,
        }


class AdaptationCurve(ColumnMeans):
    """Accumulates the returns of trials into a `Curve`, over batches and ranks.

    Args:
        num_episodes: E, maximum number of episodes of a trial.
        **kwargs: options of `torchmetrics.Metric`, such as `sync_on_compute=False` for a curve that
            a single rank computes.
    """

    def __init__(self, num_episodes: int, **kwargs: Any) -> None:
        # One column for each episode, and the last one for the whole trial.
        super().__init__(num_episodes + 1, **kwargs)
        self.num_episodes = num_episodes

    def update(self, returns: Tensor, played: Tensor) -> None:
        """Add a batch of trials.

        Args:
            returns: return of each episode, `[B, E]`, float.
            played: whether the trial reached the episode, `[B, E]`, bool; a trial that reached
                none is not counted.

        Raises:
            ValueError: a shape is not `[B, E]`.
        """
        if returns.shape != played.shape or returns.shape[1:] != (self.num_episodes,):
            raise ValueError(
                f"returns {list(returns.shape)} and played {list(played.shape)} must both be "
                f"[trials, {self.num_episodes}]"
            )
        returns = returns.detach().to(torch.float64).masked_fill(~played, 0.0)
        self.add(
            torch.cat([returns, returns.sum(1, keepdim=True)], dim=1),
            torch.cat([played, played.any(1, keepdim=True)], dim=1),
        )

    def compute(self) -> Curve:
        """The curve of all trials, on all ranks."""
        mean, half_width, counts = self.estimates()
        return Curve(
            mean=mean[:-1],
            half_width=half_width[:-1],
            trial_return=mean[-1].item(),
            trial_half_width=half_width[-1].item(),
            num_trials=int(counts[-1]),
        )


def _number_or_none(value: float) -> float | None:
    return value if math.isfinite(value) else None
