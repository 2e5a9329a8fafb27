"""Train and evaluate from Python."""

from collections.abc import Sequence
from contextlib import closing
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any

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
from rl2_lightning.config import num_ranks
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.evaluate import evaluate as evaluate_agent
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.notebook.composing import Folder, compose_config, require_same_spaces
from rl2_lightning.notebook.results import Evaluation, Training
from rl2_lightning.run_folder import LAST_CHECKPOINT, claimed, new_folder, removed_if_refused
from rl2_lightning.session import closing_test, fit

METRICS = Path("csv") / "metrics.csv"


def train(
    experiment: str = "default",
    overrides: Sequence[str] = (),
    folder: Folder | None = None,
    config_dir: Folder | None = None,
) -> Training:
    """Train an agent, and test it on held-out tasks, as `python train.py` does.

    A run on one device. It writes the same files as on the command line.

    Args:
        experiment: an experiment of `configs/experiment`.
        overrides: fields, as on the command line: `["memory=lstm", "env.num_arms=7"]`.
        folder: folder of the run; None for a new one below `outputs/`.
        config_dir: folder of your own configuration, like `--config-dir`.

    Raises:
        UserError: a field is unknown or its value wrong, or the folder holds another run.
    """
    given = [f"experiment={experiment}", "logger=csv", *overrides]
    with removed_if_refused():
        time = f"{datetime.now():%Y-%m-%d_%H-%M-%S}"
        place = folder or new_folder(f"outputs/{experiment}/{time}")
        cfg = compose_config(given, place, config_dir)
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
    config_dir: Folder | None = None,
) -> Evaluation:
    """Let an agent play held-out tasks, beside the reference players of the family.

    Args:
        agent: the agent, or the path of its checkpoint.
        experiment: experiment whose tasks are played, with its length of trials.
        overrides: fields of the tasks, as on the command line.
        num_tasks: number of tasks.
        config_dir: folder of your own configuration, like `--config-dir`.

    Raises:
        UserError: a field is unknown or its value wrong, or the agent cannot play these tasks.
    """
    player = agent if isinstance(agent, Agent) else Agent.load(agent)
    given = [f"experiment={experiment}", *overrides, f"evaluation.test_tasks={num_tasks}"]
    cfg = compose_config(given, config_dir=config_dir)
    with closing(build_world(cfg)) as world:
        require_same_spaces(player, build_agent(cfg, world))
        held_out: HeldOut = build_held_out(cfg, world)["test"]
        found = evaluate_agent(player, held_out, next(player.parameters()).device)
        return Evaluation(found.curves, held_out.reference_curves(), found.findings)


def _history(table: Path) -> list[dict[str, float]]:
    if not table.exists():
        return []
    rows: list[dict[str, Any]] = [dict(row) for row in read_rows(table)]
    return [{name: float(value) for name, value in row.items() if value} for row in rows]
