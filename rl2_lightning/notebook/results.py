"""The results of trainings and evaluations, and their plots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from matplotlib.figure import Figure

from rl2_lightning.agents.agent import Agent
from rl2_lightning.callbacks.adaptation_curve import TABLE
from rl2_lightning.callbacks.adaptation_over_training import read_validations, title_of
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.over_training import over_training_figure
from rl2_lightning.evaluation.plots import adaptation_curve_figure
from rl2_lightning.families.analysis import Finding


@dataclass(frozen=True, repr=False)
class Evaluation:
    """The results of an agent on held-out tasks, beside those of reference players.

    Attributes:
        curves: the agent's adaptation curves, "greedy" and "sampled".
        references: the curves of the reference players on the same tasks, the best one last.
        findings: results of the family's own analysis, for each way of acting; may be empty.
    """

    curves: Mapping[str, Curve]
    references: Mapping[str, Curve]
    findings: Mapping[str, Finding]

    @property
    def reference(self) -> str | None:
        """The name of the optimal or best known player; None if there is no player."""
        return next(reversed(list(self.references)), None)

    def __repr__(self) -> str:
        players = {f"agent {name}": curve for name, curve in self.curves.items()} | dict(
            self.references
        )
        width = max(map(len, players))
        lines = (f"{name:{width}}  {curve.trial_text()}" for name, curve in players.items())
        return "\n".join(["mean return of a trial ± 95 %", *lines])


@dataclass(frozen=True, repr=False)
class Training(Evaluation):
    """The results of a training, tested on held-out tasks.

    Attributes:
        agent: the trained agent.
        folder: folder of the run, with its checkpoint and files.
        history: for each iteration or validation the metrics that were logged, by name, with the
            env steps as `step`; see docs/metrics.md.
    """

    agent: Agent
    folder: Path
    history: Sequence[Mapping[str, float]]

    def series(self, metric: str) -> tuple[list[float], list[float]]:
        """The env steps at which a metric was logged, and its values.

        Raises:
            UserError: it was not logged.
        """
        rows = [row for row in self.history if metric in row]
        if not rows:
            known = ", ".join(sorted({name for row in self.history for name in row}))
            raise UserError(f"{metric} was not logged: known are {known}")
        return [row["step"] for row in rows], [row[metric] for row in rows]


def plot(results: Evaluation, path: str | PathLike[str] | None = None) -> Figure:
    """Draw the adaptation curves of an agent and of the reference players.

    Args:
        results: of `train` or `evaluate`.
        path: file to write the picture to; None for none.
    """
    agents = {f"agent {name}": curve for name, curve in results.curves.items()}
    num_tasks = next(iter(results.curves.values())).num_trials
    figure = adaptation_curve_figure(
        agents, f"on {num_tasks:,} held-out tasks", results.references, results.reference
    )
    if path is not None:
        figure.savefig(path)
    return figure


def plot_training(training: Training, path: str | PathLike[str] | None = None) -> Figure:
    """Draw how adaptation emerged: the adaptation curves of the validations of a training.

    Args:
        training: of `train`.
        path: file to write the picture to; None for none.

    Raises:
        UserError: there were fewer than two validations.
    """
    validations = read_validations(training.folder / TABLE)
    if len(validations) < 2:
        raise UserError(
            f"the training had {len(validations)} validation(s), and the picture needs two: lower "
            "trainer.check_val_every_n_epoch"
        )
    figure = over_training_figure(validations, title_of(validations))
    if path is not None:
        figure.savefig(path)
    return figure
