"""What greedy play of the last checkpoint is to reach."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rl2_lightning.evaluation.adaptation_curve import Curve


class Bar(Protocol):
    """A claim about an agent that an evaluation can refute; its text states it."""

    @abstractmethod
    def __str__(self) -> str:
        """As it stands in a table."""

    @abstractmethod
    def reached_by(self, agent: Curve, oracles: Mapping[str, Curve]) -> bool:
        """Whether it holds.

        Args:
            agent: of greedy play.
            oracles: on the same tasks, the reference last.
        """


@dataclass(frozen=True)
class Return(Bar):
    """The return of a trial is at least this."""

    value: float

    def __str__(self) -> str:
        return str(self.value)

    def reached_by(self, agent: Curve, oracles: Mapping[str, Curve]) -> bool:
        """Compares the mean."""
        return agent.trial_return >= self.value


@dataclass(frozen=True)
class ShareOfReference(Bar):
    """The return of a trial is at least this share of the reference's, which is positive."""

    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the reference"

    def reached_by(self, agent: Curve, oracles: Mapping[str, Curve]) -> bool:
        """Compares the means."""
        *_, reference = oracles.values()
        return agent.trial_return >= self.share * reference.trial_return


@dataclass(frozen=True)
class LaterEpisodes(Bar):
    """From the second one each episode's return is at least this share of the reference's."""

    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the reference from episode 2"

    def reached_by(self, agent: Curve, oracles: Mapping[str, Curve]) -> bool:
        """Compares the curves."""
        *_, reference = oracles.values()
        return bool((agent.mean[1:] >= self.share * reference.mean[1:]).all())


@dataclass(frozen=True)
class Above(Bar):
    """The interval of the trial's return lies above those of other players."""

    players: tuple[str, ...]

    def __str__(self) -> str:
        return f"above {' and '.join(name.replace('_', ' ') for name in self.players)}"

    def reached_by(self, agent: Curve, oracles: Mapping[str, Curve]) -> bool:
        """Compares the intervals."""
        low = agent.trial_return - agent.trial_half_width
        others = [oracles[name] for name in self.players]
        return all(low > other.trial_return + other.trial_half_width for other in others)


@dataclass(frozen=True)
class Adapts(Bar):
    """The interval of the second episode's return lies above that of the first's."""

    def __str__(self) -> str:
        return "episode 2 above episode 1"

    def reached_by(self, agent: Curve, oracles: Mapping[str, Curve]) -> bool:
        """Compares the intervals of the two episodes."""
        first, second = agent.mean[:2].tolist()
        first_half_width, second_half_width = agent.half_width[:2].tolist()
        return second - second_half_width > first + first_half_width


# The experiments of neither of the paper's tables, in the order in which they are shown.
WORLDS: Mapping[str, Bar] = {
    "pair_independent": ShareOfReference(0.99),
    "pair_uniform": ShareOfReference(0.99),
    "pair_easy": ShareOfReference(0.99),
    "pair_medium": ShareOfReference(0.99),
    "pair_hard": ShareOfReference(0.99),
    "gaussian_n100_k5": ShareOfReference(0.98),
    "restless": Above(("thompson_stationary", "ucb1_stationary")),
    "informative": ShareOfReference(0.95),
    "two_step": ShareOfReference(0.95),
    "grid_navi": LaterEpisodes(0.95),
    "point_robot": Adapts(),
    "point_robot_sparse": Adapts(),
    "cart_pole": Adapts(),
    "pendulum": Adapts(),
    "maze_5x5": Adapts(),
    "maze_9x9": Adapts(),
}
