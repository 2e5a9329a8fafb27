"""Bars that last checkpoints should reach, in greedy play unless a bar says otherwise."""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.means import Estimate

Players = Mapping[str, Curve]
Measures = Mapping[str, Estimate]


class Bar(Protocol):
    """A claim about an agent that an evaluation can check; its text states the claim."""

    @abstractmethod
    def __str__(self) -> str:
        """The text of the bar in a table."""

    @abstractmethod
    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Whether the claim holds.

        Args:
            agent: curve of greedy play.
            references: curves of reference players on the same tasks, the best one last.
            measures: figures of the family's own analysis for the agent.
        """


@dataclass(frozen=True)
class Return(Bar):
    """The return of a trial is at least this."""

    value: float

    def __str__(self) -> str:
        return str(self.value)

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the mean."""
        return agent.trial_return >= self.value


@dataclass(frozen=True)
class ShareOfReference(Bar):
    """The return of a trial is at least this share of the reference's, which is positive."""

    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the reference"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the means."""
        *_, reference = references.values()
        return agent.trial_return >= self.share * reference.trial_return


@dataclass(frozen=True)
class LaterEpisodes(Bar):
    """From episode 2 on, each return is at least this share of the reference's."""

    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} of the reference from episode 2"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the curves."""
        *_, reference = references.values()
        return bool((agent.mean[1:] >= self.share * reference.mean[1:]).all())


@dataclass(frozen=True)
class Searches(Bar):
    """Each episode, the first too, has at least this share of the reference's return.

    The number of cells that are searched in vain in the first episode also has to be that of the
    best search, within the rest of the share.

    Attributes:
        share: minimum share.
        cells: what the best search has, in the mean over all goals.
    """

    share: float
    cells: float

    def __str__(self) -> str:
        return f"each episode {self.share:.0%} of the reference, {self.cells} cells searched"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the curves and the mean number of cells."""
        *_, reference = references.values()
        cells = measures["search_cells_episode_1_greedy"].value
        return bool((agent.mean >= self.share * reference.mean).all()) and (
            abs(cells - self.cells) <= (1 - self.share) * self.cells
        )


@dataclass(frozen=True)
class EpisodeReturn(Bar):
    """The return of an episode is at least this.

    Attributes:
        episode: the episode, from 1.
        value: its return.
    """

    episode: int
    value: float

    def __str__(self) -> str:
        return f"{self.value} in episode {self.episode}"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the mean."""
        return float(agent.mean[self.episode - 1]) >= self.value


@dataclass(frozen=True)
class Positive(Bar):
    """The interval of an episode's return is above 0.

    Attributes:
        episode: the episode, from 1.
    """

    episode: int

    def __str__(self) -> str:
        return f"episode {self.episode} above 0"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Look at the interval."""
        index = self.episode - 1
        return bool(agent.mean[index] - agent.half_width[index] > 0)


@dataclass(frozen=True)
class Succeeds(Bar):
    """Meta-World's score is at least this.

    Attributes:
        share: of the scored episodes that have a success.
    """

    share: float

    def __str__(self) -> str:
        return f"{self.share:.0%} success"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Look at the score of greedy play."""
        return measures["meta_world_success_greedy"].value >= self.share


@dataclass(frozen=True)
class Above(Bar):
    """The interval of the trial's return is above those of other players."""

    players: tuple[str, ...]

    def __str__(self) -> str:
        return f"above {' and '.join(name.replace('_', ' ') for name in self.players)}"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the intervals."""
        low = agent.trial_return - agent.trial_half_width
        others = [references[name] for name in self.players]
        return all(low > other.trial_return + other.trial_half_width for other in others)


@dataclass(frozen=True)
class Adapts(Bar):
    """The interval of the second episode's return is above that of the first's."""

    def __str__(self) -> str:
        return "episode 2 above episode 1"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the intervals of the two episodes."""
        first, second = agent.mean[:2].tolist()
        first_half_width, second_half_width = agent.half_width[:2].tolist()
        return second - second_half_width > first + first_half_width


@dataclass(frozen=True)
class Chance(Bar):
    """The interval of the trial's return is not above that of the random player."""

    def __str__(self) -> str:
        return "no better than random"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the intervals."""
        random = references["random"]
        low = agent.trial_return - agent.trial_half_width
        return low <= random.trial_return + random.trial_half_width


@dataclass(frozen=True)
class Plans(Bar):
    """Reward and transition interact in the agent's choices; or they do not.

    Attributes:
        does: whether they should interact.
    """

    does: bool

    def __str__(self) -> str:
        return f"reward × transition: {'an' if self.does else 'no'} interaction"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Whether the interval of the interaction in sampled play is above 0; or includes 0."""
        value, half_width = measures["stay_adjusted_interaction_sampled"]
        return value > half_width if self.does else abs(value) <= half_width


@dataclass(frozen=True)
class Finds(Bar):
    """The goal is found in at least this share of the first and of the second episodes.

    The second episodes also have to be shorter.

    Attributes:
        success: minimum share for each of the two.
        shorter: minimum reduction of the mean length, as a fraction of the first episodes'.
    """

    success: float
    shorter: float

    def __str__(self) -> str:
        return f"{self.success:.0%} success, episode 2 {self.shorter:.0%} shorter"

    def reached_by(self, agent: Curve, references: Players, measures: Measures) -> bool:
        """Compare the means of greedy play."""

        def mean(name: str, episode: int) -> float:
            return measures[f"search_{name}_episode_{episode}_greedy"].value

        return min(mean("success", 1), mean("success", 2)) >= self.success and mean(
            "length", 2
        ) <= (1 - self.shorter) * mean("length", 1)


# The experiments that are in neither of the paper's tables, in the order of display.
WORLDS: Mapping[str, Bar] = {
    "pair_independent": ShareOfReference(0.99),
    "pair_independent_without_reward": Chance(),
    "pair_uniform": ShareOfReference(0.99),
    "pair_easy": ShareOfReference(0.99),
    "pair_medium": ShareOfReference(0.99),
    "pair_hard": ShareOfReference(0.99),
    "gaussian_n100_k5": ShareOfReference(0.98),
    "meta_gradient_bandit": ShareOfReference(0.95),
    "restless": Above(("thompson_stationary", "ucb1_stationary")),
    "informative": ShareOfReference(0.95),
    "two_step": Plans(does=True),
    "two_step_without_reward": Plans(does=False),
    "grid_navi": LaterEpisodes(0.95),
    "varibad_grid_navi": Searches(0.95, cells=9.0),
    "rl2_belief_grid_navi": Searches(0.95, cells=9.0),
    "point_robot": Adapts(),
    "point_robot_sparse": Adapts(),
    # That of RL² without a belief; a player who knows the goal has 13.39.
    "varibad_point_robot_sparse": EpisodeReturn(3, 12.63),
    "rl2_belief_point_robot_sparse": Adapts(),
    "cart_pole": Adapts(),
    "a2c_cart_pole": Return(475),
    "meta_gradient_cart_pole": Return(475),
    "pendulum": Adapts(),
    "maze_3x3": Finds(success=0.9, shorter=0.15),
    "maze_3x3_unlimited": Finds(success=0.9, shorter=0.15),
    "maze_5x5": Finds(success=0.9, shorter=0.15),
    "maze_9x9": Adapts(),
    "memory_planning_3x3": ShareOfReference(0.9),
    "memory_planning_4x4": ShareOfReference(0.9),
    "recall_gap30_r2d2": ShareOfReference(0.98),
    "recall_gap500": ShareOfReference(0.95),
}
# Experiments with Gymnasium's environments, which need an extra; others of them are examples.
GYMNASIUM: Mapping[str, Bar] = {
    "minigrid_crossing": Adapts(),
    "half_cheetah_dir": Positive(2),
    "half_cheetah_vel": Above(("random",)),
    "ant_dir": Above(("random",)),
    "metaworld_ml1_reach": Succeeds(0.8),
}
