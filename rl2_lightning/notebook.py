"""What a notebook needs: build trials and agents, train, evaluate, plot.

The names of experiments and the overrides are those of the command line.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from matplotlib.figure import Figure
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from rl2_lightning.agents.agent import Agent
from rl2_lightning.build import (
    build_agent,
    build_data,
    build_held_out,
    build_learner,
    build_trainer,
    build_world,
    require_machine,
)
from rl2_lightning.callbacks.files import read_rows
from rl2_lightning.callbacks.outcome import evaluation_of, outcome_of
from rl2_lightning.command_line import explain
from rl2_lightning.config import num_ranks, register_schemas
from rl2_lightning.config_checks import check
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.evaluate import evaluate as evaluate_agent
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.evaluation.plots import adaptation_curve_figure
from rl2_lightning.families.analysis import Finding
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.parts import leave_out_foreign
from rl2_lightning.run_folder import LAST_CHECKPOINT, claimed, new_folder, removed_if_refused
from rl2_lightning.session import closing_test, fit, quieten
from rl2_lightning.trust import CONFIGS

METRICS = Path("csv") / "metrics.csv"


@dataclass(frozen=True)
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

    def __str__(self) -> str:
        players = {f"agent {name}": curve for name, curve in self.curves.items()} | dict(
            self.references
        )
        width = max(map(len, players))
        lines = (f"{name:{width}}  {curve.trial_text()}" for name, curve in players.items())
        return "\n".join(["mean return of a trial ± 95 %", *lines])


@dataclass(frozen=True)
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


def train(
    experiment: str = "default",
    overrides: Sequence[str] = (),
    folder: str | PathLike[str] | None = None,
) -> Training:
    """Train an agent and test it, as `python train.py experiment=...` does.

    Args:
        experiment: an experiment of `configs/experiment`.
        overrides: fields, as on the command line: `["memory=lstm", "env.num_arms=7"]`.
        folder: folder of the run; None for a new one below `outputs/`.

    Raises:
        UserError: a field is unknown or its value wrong, or the folder holds another run.
    """
    given = [f"experiment={experiment}", "logger=csv", *overrides]
    with removed_if_refused():
        time = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        cfg = compose_config(given, folder or new_folder(f"outputs/{experiment}/{time}"))
        if num_ranks(cfg) > 1:
            raise UserError(
                f"trainer.devices={cfg.trainer.devices} from Python: a run on several devices "
                "starts its own command again, so use the command line"
            )
        require_machine(cfg)
        with claimed(cfg, given), closing(build_data(cfg)) as data:
            learner = build_learner(cfg, data)
            trainer = build_trainer(cfg, data, learner)
            fit(trainer, learner, data, cfg)
            closing_test(trainer, learner, data, cfg)
            outcome = outcome_of(trainer, learner, "test")
            findings = evaluation_of(trainer).findings
    run = Path(cfg.output_dir)
    return Training(
        curves=outcome.agents,
        references=outcome.references,
        findings=findings,
        agent=Agent.load(run / LAST_CHECKPOINT),
        folder=run,
        history=_history(run / METRICS),
    )


def evaluate(
    agent: Agent | str | PathLike[str],
    experiment: str = "default",
    overrides: Sequence[str] = (),
    num_tasks: int = 1000,
) -> Evaluation:
    """Let an agent play held-out tasks, beside the reference players of the family.

    Args:
        agent: the agent, or the path of its checkpoint.
        experiment: experiment whose tasks are played, with its length of trials.
        overrides: fields of the tasks, as on the command line.
        num_tasks: number of tasks.

    Raises:
        UserError: a field is unknown or its value wrong, or the agent cannot play these tasks.
    """
    player = agent if isinstance(agent, Agent) else Agent.load(agent)
    given = [f"experiment={experiment}", *overrides, f"evaluation.test_tasks={num_tasks}"]
    cfg = compose_config(given)
    with closing(build_world(cfg)) as world:
        _require_same_spaces(player, build_agent(cfg, world))
        held_out: HeldOut = build_held_out(cfg, world)["test"]
        found = evaluate_agent(player, held_out, next(player.parameters()).device)
        return Evaluation(found.curves, held_out.reference_curves(), found.findings)


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


def make_trials(
    experiment: str = "default", num_trials: int = 1, overrides: Sequence[str] = (), seed: int = 1
) -> TrialEnv:
    """Trials of an experiment's tasks, as a TorchRL environment.

    `trials.task_env` is the family: its tasks, episode by episode.

    Args:
        experiment: an experiment of `configs/experiment`.
        num_trials: B, number of trials that are played at once.
        overrides: fields, as on the command line: `["env=grid_navi", "env.size=7"]`.
        seed: seed of the tasks, and of everything else that is drawn.

    Raises:
        UserError: a field is unknown or its value wrong.
    """
    world = build_world(compose_config([f"experiment={experiment}", *overrides]))
    trials = world.make_trials(num_trials, torch.device("cpu"))
    trials.set_seed(seed)
    return trials


def make_agent(experiment: str = "default", overrides: Sequence[str] = ()) -> Agent:
    """An untrained agent of an experiment.

    Args:
        experiment: an experiment of `configs/experiment`.
        overrides: fields, as on the command line: `["memory=snail", "seed=3"]`.

    Raises:
        UserError: a field is unknown or its value wrong.
    """
    cfg = compose_config([f"experiment={experiment}", *overrides])
    with closing(build_world(cfg)) as world:
        return build_agent(cfg, world)


def compose_config(
    overrides: Sequence[str], folder: str | PathLike[str] | None = None
) -> DictConfig:
    """The checked config of `python train.py ...`.

    Args:
        overrides: fields, as on the command line.
        folder: folder of the run; None for a config that no run uses.

    Raises:
        UserError: a field is unknown or its value wrong.
    """
    quieten()
    register_schemas()
    with _one_line():
        with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
            cfg = compose("train", list(overrides))
        with open_dict(cfg):
            cfg.output_dir = str(folder or "")
        for name in ("ckpt_path", "start_from"):
            if cfg[name] is not None:
                raise UserError(f"{name}={cfg[name]} from Python: use the command line for it")
        check(cfg, num_cores=os.cpu_count() or 1, multirun=False)
        leave_out_foreign(cfg, overrides)
    return cfg


@contextmanager
def _one_line() -> Iterator[None]:
    """Raise what Hydra finds as an error of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from None


def _require_same_spaces(agent: Agent, expected: Agent) -> None:
    """Check that an agent sees and does what the tasks show and take."""
    theirs, ours = expected.spec.to_plain(), agent.spec.to_plain()
    takes_any = ours["agent"]["policy_head"] == "action_queries"
    for name in ("observations",) if takes_any else ("observations", "actions"):
        if theirs[name] != ours[name]:
            raise UserError(
                f"the agent has {name} {ours[name]}, these tasks {theirs[name]}: use the "
                "experiment and the fields of env that it was trained with"
            )


def _history(table: Path) -> list[dict[str, float]]:
    if not table.exists():
        return []
    rows: list[dict[str, Any]] = [dict(row) for row in read_rows(table)]
    return [{name: float(value) for name, value in row.items() if value} for row in rows]
