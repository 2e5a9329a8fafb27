"""The counters of a run."""

import torch
from torch import Tensor, nn

from rl2_lightning.data.readings import Readings


class Clock(nn.Module):
    """Counts iterations and env steps over all ranks; its counters are in the checkpoint.

    It counts an iteration when its trials are collected.
    """

    iterations_done: Tensor
    env_steps_done: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("iterations_done", "env_steps_done"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))
        self._readings = Readings()

    @property
    def iterations(self) -> int:
        """The number of iterations whose trials have been collected."""
        return self._readings.number("iterations", self.iterations_done)

    @property
    def env_steps(self) -> int:
        """The number of env steps collected on all ranks, without idle steps."""
        return self._readings.number("env_steps", self.env_steps_done)

    def tick(self, num_steps: Tensor) -> None:
        """Count an iteration.

        Args:
            num_steps: its env steps over all ranks, an integer `[]`.
        """
        iterations = self.iterations + 1
        self.env_steps_done += num_steps
        self.iterations_done += 1
        self._readings.note("iterations", self.iterations_done, iterations)

    def restart(self) -> None:
        """Reset both counters to 0."""
        self.env_steps_done.zero_()
        self.iterations_done.zero_()
