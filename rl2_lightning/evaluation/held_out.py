"""The held-out tasks, the order in which they are played, and their reference players."""

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from typing import Any

import torch
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.actor import AgentActor, require_finite
from rl2_lightning.data.seeding import Purpose, derive_seed
from rl2_lightning.data.world import World
from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve
from rl2_lightning.families.analysis import Analysis, Finding
from rl2_lightning.families.play import (
    RETURNS,
    episode_returns,
    play,
    play_reference,
    play_reference_trials,
)
from rl2_lightning.families.player import ClosedFormPlayer, Player
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.progress import track_slow

MODES = ("greedy", "sampled")  # the ways in which an agent is evaluated, in the order of loaders
TASKS_PER_CHUNK = 1000  # played at once by a reference player, to bound memory


class HeldOut:
    """A fixed set of tasks for validation or test, and the curves of its reference players.

    Reference players play only when a curve is requested.

    Args:
        world: creates the environments of the trials.
        purpose: which set it is.
        num_tasks: N.
        tasks_seed: seed of the tasks and of all draws while they are played.
        batch_size: number of tasks that an agent plays at once.

    Attributes:
        tasks: their parameters, `[N]`.
        num_episodes: E, maximum number of episodes of a trial.
    """

    def __init__(
        self, world: World, purpose: Purpose, num_tasks: int, tasks_seed: int, batch_size: int
    ) -> None:
        self._world = world
        self._seed = derive_seed(purpose, tasks_seed)
        self._tasks_seed = tasks_seed
        self._batch_size = batch_size
        self.task_env.set_seed(self._seed)
        self.tasks: TensorDictBase = self.task_env.sample_tasks(num_tasks)
        self.num_episodes = world.specimen.max_episodes

    def __len__(self) -> int:
        return len(self.tasks)

    @property
    def task_env(self) -> TaskEnv:
        """An environment of the family with one task; it is never stepped."""
        return self._world.tasks(1, "cpu")

    def play(
        self,
        agent: Agent,
        indices: list[int],
        *,
        greedy: bool,
        device: torch.device | None = None,
        shows_position: bool = False,
    ) -> TensorDictBase:
        """Let an agent play one trial of each of the given tasks.

        Args:
            agent: the agent that plays, on the device.
            indices: indices of the tasks; the first one seeds all draws.
            greedy: whether it takes the most likely actions instead of sampling.
            device: device on which they are played; None for the CPU.
            shows_position: whether to record the positions and everything else; for families that
                have a scene.

        Returns:
            Rewards, episodes, mask and the entries that the family records, `[B, T]`; with
            `shows_position` all entries of a step and the position after it.

        Raises:
            NonFiniteLossError: a reward or a probability is not finite.
        """
        place = device or torch.device("cpu")
        env = self._world.trials(len(indices), place, shows_position=shows_position)
        environment, actions = (
            derive_seed(purpose, self._tasks_seed, indices[0])
            for purpose in (Purpose.EVALUATION_ENVIRONMENT, Purpose.EVALUATION_ACTIONS)
        )
        env.set_seed(environment)
        recorded = {*RETURNS, keys.ACTION_LOG_PROB, *env.task_env.recorded_keys}
        kept = None if shows_position else recorded
        generator = torch.Generator(place).manual_seed(actions)
        actor = AgentActor(agent, generator, greedy=greedy)
        steps = play(actor, env, self.tasks[indices], kept=kept)[keys.STEPS]
        require_finite(steps, agent, env)
        return steps.exclude(keys.ACTION_LOG_PROB)

    def chunks(self, rank: int = 0, num_ranks: int = 1) -> list[list[int]]:
        """The indices of a rank's tasks in order, in chunks that are played at once."""
        share = torch.arange(len(self)).tensor_split(num_ranks)[rank]
        return [chunk.tolist() for chunk in share.split(self._batch_size)]

    def loaders(
        self,
        agent: Agent,
        device: torch.device,
        rank: int = 0,
        num_ranks: int = 1,
        context: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> list[Iterable[TensorDictBase]]:
        """Loaders that play a rank's share of the tasks chunk by chunk, one for each of `MODES`.

        Args:
            agent: the agent that plays.
            device: device on which it plays.
            rank: rank of this process.
            num_ranks: number of processes that share the tasks.
            context: context manager around the play, for the trainer's precision.
        """
        chunks = self.chunks(rank, num_ranks)
        return [
            HeldOutTrials(self, agent, chunks, mode == "greedy", device, context) for mode in MODES
        ]

    @cached_property
    def players(self) -> dict[str, Player | ClosedFormPlayer]:
        """The reference players by name; empty if trials do not consist of whole episodes."""
        if not self._world.has_whole_episodes:
            return {}
        return dict(self.task_env.players(self.num_episodes))

    @property
    def reference(self) -> str | None:
        """The name of the optimal or best known player; None if there is no player."""
        return next(reversed(self.players), None)

    def reference_curves(self) -> dict[str, Curve]:
        """Let each reference player play a trial of each task; the curves are cached.

        Each player has a generator of its own, seeded from the seed and the player's name, so that
        its curve does not depend on the other players. A single rank may call this.

        Returns:
            The curve of each player, the reference last.
        """
        return dict(self._curves)

    def share_of_reference(self, curve: Curve) -> float | None:
        """A curve's trial return over the reference's.

        Returns:
            The share; None without a reference, or if one of the returns is not positive.
        """
        reference = self.reference
        return None if reference is None else curve.share_of(self._curves[reference])

    @cached_property
    def analysis(self) -> Analysis | None:
        """The family's own analysis of trials beyond their returns, if any."""
        return self.task_env.analysis(self.num_episodes)

    def reference_findings(self) -> dict[str, Finding]:
        """The results of the family's own analysis for reference players, by name."""
        analysis = self.analysis
        if analysis is None:
            return {}
        found = {}
        for name in analysis.references:
            player = self.players.get(name)
            if isinstance(player, Player):
                metric = analysis.make_metric(sync_on_compute=False)
                for chunk, env, generator in self._turns(name):
                    steps = play_reference_trials(player, env, chunk, self.num_episodes, generator)
                    analysis.add(metric, steps)
                found[name] = metric.compute()
        return found

    @cached_property
    def _curves(self) -> Mapping[str, Curve]:
        # No synchronisation: one rank computes these while the others wait.
        return {name: self._curve_of(name) for name in self.players}

    def _curve_of(self, name: str) -> Curve:
        metric = AdaptationCurve(self.num_episodes, sync_on_compute=False)
        for chunk, env, generator in track_slow(
            list(self._turns(name)), f"{name} on held-out tasks"
        ):
            returns = play_reference(
                self.players[name], env, chunk, self.num_episodes, generator
            ).cpu()
            if not returns.isfinite().all():
                raise NonFiniteLossError(
                    f"{type(env).__name__} returned a non-finite reward to {name}: fix the "
                    "environment"
                )
            metric.update(returns, torch.ones_like(returns, dtype=torch.bool))
        curve: Curve = metric.compute()
        return curve

    def _turns(self, name: str) -> Iterator[tuple[TensorDictBase, TaskEnv, torch.Generator]]:
        """Yield the tasks chunk by chunk, with their environment and the player's generator."""
        digest = hashlib.sha256(f"{self._seed} {name}".encode()).digest()
        seed = int.from_bytes(digest[:8], "big") >> 1
        generator = torch.Generator().manual_seed(seed)
        # Each task of other families is an environment: no more of them than an agent plays.
        are_tensors = len(self.task_env.backends) == 1
        for chunk in self.tasks.split(TASKS_PER_CHUNK if are_tensors else self._batch_size):
            yield chunk, self._world.tasks(len(chunk), "cpu"), generator


class HeldOutTrials:
    """Plays held-out tasks chunk by chunk when iterated over, each time with the same seeds.

    Args:
        held_out: the tasks.
        agent: the agent that plays.
        chunks: indices of the tasks that are played together.
        greedy: whether the agent takes the most likely actions.
        device: device on which they are played.
        context: context manager around the play.
    """

    def __init__(
        self,
        held_out: HeldOut,
        agent: Agent,
        chunks: list[list[int]],
        greedy: bool,
        device: torch.device,
        context: Callable[[], AbstractContextManager[Any]],
    ) -> None:
        self._held_out = held_out
        self._agent = agent
        self._chunks = chunks
        self._greedy = greedy
        self._device = device
        self._context = context

    def __len__(self) -> int:
        return len(self._chunks)

    def __iter__(self) -> Iterator[TensorDictBase]:
        for chunk in self._chunks:
            with self._context():
                steps = self._held_out.play(
                    self._agent, chunk, greedy=self._greedy, device=self._device
                )
            yield steps


def add_returns(metric: AdaptationCurve, steps: TensorDictBase) -> None:
    """Add the returns of played trials, `[B, T]`, to a curve."""
    returns: tuple[Tensor, Tensor] = episode_returns(steps, metric.num_episodes)
    metric.update(*returns)
