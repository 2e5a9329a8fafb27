"""The tasks kept apart from training, and how the oracles play them."""

import hashlib
from functools import cached_property

import torch
from tensordict import TensorDictBase

from rl2_lightning.envs.task_env import TaskEnv
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve
from rl2_lightning.oracles.oracle import Oracle
from rl2_lightning.oracles.progress import track_slow

TASKS_PER_CHUNK = 1000  # that an oracle plays at once, so that its memory does not grow with N


class HeldOutTasks:
    """A fixed set of tasks for validation or test, and the curves of its oracles.

    Nothing is played before a curve is asked for.

    Args:
        env: the family of the tasks, which declares the oracles; it is not stepped.
        tasks: parameters of N tasks, `[N]`; the oracles play on their device.
        num_episodes: E, the most episodes that a trial can hold.
        seed: fixes all that the oracles draw.
        has_oracles: whether the family's oracles play; they take whole episodes.
    """

    def __init__(
        self,
        env: TaskEnv,
        tasks: TensorDictBase,
        num_episodes: int,
        seed: int,
        has_oracles: bool = True,
    ) -> None:
        self.env = env
        self.tasks = tasks
        self.num_episodes = num_episodes
        self.seed = seed
        self._has_oracles = has_oracles

    @property
    def reference(self) -> str | None:
        """Name of the oracle that is the optimum as best known; None where there is no oracle."""
        return next(reversed(self._oracles), None)

    def oracle_curves(self) -> dict[str, Curve]:
        """Lets each oracle play a trial of each task; later calls give the same curves.

        An oracle draws from a generator of its own, seeded from the seed and the oracle's name, so
        that its curve does not depend on which others there are. It takes no other rank to call.

        Returns:
            The curve of each oracle, the reference last.

        Raises:
            ValueError: an oracle's returns are not `[B, E]`.
        """
        return dict(self._curves)

    def share_of_reference(self, curve: Curve) -> float | None:
        """A curve's trial return over the reference's.

        Returns:
            The share; None without a reference, or where its return is not positive.
        """
        reference = self.reference
        return None if reference is None else curve.share_of(self._curves[reference])

    @cached_property
    def _oracles(self) -> dict[str, Oracle]:
        return dict(self.env.oracles(self.num_episodes)) if self._has_oracles else {}

    @cached_property
    def _curves(self) -> dict[str, Curve]:
        chunks = self.tasks.split(TASKS_PER_CHUNK)
        # One rank computes them while the others wait: a sum over the ranks would never end.
        metrics = {
            name: AdaptationCurve(self.num_episodes, sync_on_compute=False)
            for name in self._oracles
        }
        generators = {name: self._generator(name) for name in self._oracles}
        turns = [(name, chunk) for name in self._oracles for chunk in chunks]
        for name, chunk in track_slow(turns, "oracles on held-out tasks"):
            oracle = self._oracles[name]
            returns = oracle.play(chunk, self.num_episodes, generators[name]).cpu()
            metrics[name].update(returns, torch.ones_like(returns, dtype=torch.bool))
        return {name: metric.compute() for name, metric in metrics.items()}

    def _generator(self, name: str) -> torch.Generator:
        digest = hashlib.sha256(f"{self.seed} {name}".encode()).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
        return torch.Generator(device=self.tasks.device or "cpu").manual_seed(seed)
