"""Inputs in units of their running spread, so that the units of an environment do not matter."""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from rl2_lightning.errors import UserError

NORMALISED = ("observation", "reward")
LARGEST = 10.0  # largest magnitude of a normalised number
SMALLEST_VARIANCE = 1e-8


class RunningSpread(nn.Module):
    """Mean and variance of the numbers that have been measured.

    They are buffers, so a checkpoint contains them, and they change in `update` alone: while an
    iteration is learnt from, and in an agent that is evaluated or deployed, they stay as they are.
    Until something has been measured, mean and variance are 0 and 1. They are float64, because the
    first sums of squares are about 0: if a mean is large, float32 would round the spread away.

    Args:
        size: N, how many numbers there are.
        centred: whether the mean is subtracted; without, the unit is the root of the mean square.
    """

    count: Tensor
    mean: Tensor
    variance: Tensor
    pending_count: Tensor
    pending_sum: Tensor
    pending_squares: Tensor

    def __init__(self, size: int, *, centred: bool) -> None:
        super().__init__()
        self.is_centred = centred
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("variance", torch.ones(size, dtype=torch.float64))
        self.register_buffer("pending_count", torch.zeros((), dtype=torch.int64))
        self.register_buffer("pending_sum", torch.zeros(size, dtype=torch.float64))
        self.register_buffer("pending_squares", torch.zeros(size, dtype=torch.float64))

    def forward(self, numbers: Tensor) -> Tensor:
        """Numbers `[..., N]` in units of their spread, float32, within [-10, 10]."""
        if self.is_centred:
            scaled = (numbers - self.mean) / (self.variance + SMALLEST_VARIANCE).sqrt()
        else:
            scaled = numbers / (self.variance + self.mean**2 + SMALLEST_VARIANCE).sqrt()
        return scaled.clamp(-LARGEST, LARGEST).to(torch.float32)

    def deviations(self, numbers: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
        """What numbers add to the statistics; such sums of several ranks can be added.

        Args:
            numbers: `[M, N]`.
            counts: which of them to measure, `[M]`, bool.

        Returns:
            How many there are, `[1]`, int64; and the sums of their deviations from the present mean
            and of the squares of these, `[2, N]`.
        """
        deviation = (numbers.double() - self.mean).masked_fill(~counts.unsqueeze(-1), 0.0)
        return counts.sum().reshape(1), torch.stack([deviation.sum(0), deviation.square().sum(0)])

    def measure(self, count: Tensor, sums: Tensor) -> None:
        """Add what `deviations` has returned to what `update` will take over."""
        self.pending_count += count.squeeze(0)
        self.pending_sum += sums[0]
        self.pending_squares += sums[1]

    def update(self) -> None:
        """Take over what has been measured (Chan et al. 1979, for sums about the old mean)."""
        total = self.count + self.pending_count
        weight = 1 / total.clamp(min=1).double()
        shift = self.pending_sum * weight
        squares = self.variance * self.count + self.pending_squares
        has_any = total > 0
        self.variance.copy_(
            torch.where(has_any, (squares * weight - shift**2).clamp(min=0.0), self.variance)
        )
        self.mean += shift
        self.count.copy_(total)
        for pending in (self.pending_count, self.pending_sum, self.pending_squares):
            pending.zero_()


class InputNormaliser(nn.Module):
    """The running spreads of an agent's inputs.

    Args:
        sizes: for each observation that is no image, by name, how many numbers it consists of.
        normalised: which inputs are normalised: "observation", "reward".

    Raises:
        UserError: an input cannot be normalised.
    """

    def __init__(self, sizes: Mapping[str, int], normalised: Collection[str]) -> None:
        super().__init__()
        if unknown := set(normalised) - set(NORMALISED):
            raise UserError(
                f"agent.normalised={sorted(unknown)}: name inputs of {', '.join(NORMALISED)}"
            )
        self.observations = nn.ModuleDict()
        if "observation" in normalised:
            # The name of the only observation is empty, which a module's cannot be.
            self.observations.update(
                {f"of_{name}": RunningSpread(size, centred=True) for name, size in sizes.items()}
            )
        self.reward = RunningSpread(1, centred=False) if "reward" in normalised else None

    def observation(self, name: str, numbers: Tensor) -> Tensor:
        """An observation, `[..., N]`, as the agent sees it."""
        key = f"of_{name}"
        if key not in self.observations:
            return numbers
        seen: Tensor = self.observations[key](numbers)
        return seen

    def earned(self, reward: Tensor) -> Tensor:
        """A reward, `[..., 1]`, as the agent sees it."""
        if self.reward is None:
            return reward
        seen: Tensor = self.reward(reward)
        return seen
