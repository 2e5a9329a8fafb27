"""What a validation or a test has found, for the callbacks that show or write it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

from lightning.pytorch import LightningModule, Trainer

from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.held_out import HeldOutTasks

Stage = Literal["validation", "test"]


class EvaluatedAgent(Protocol):
    """What a LightningModule offers once it has played the held-out tasks.

    Attributes:
        latest_curves: the agent's curves, by the way it acted ("greedy", "sampled").
        env_steps: env steps that the agent has learnt from, over all ranks.
        iteration: iterations that it has been trained for.
    """

    latest_curves: Mapping[str, Curve]
    env_steps: int
    iteration: int


@dataclass(frozen=True)
class Outcome:
    """The curves of all players on the held-out tasks of a stage.

    Attributes:
        stage: "validation" or "test".
        iteration: iterations that the agent has been trained for.
        env_steps: env steps that it has learnt from.
        agents: the agent's curves, by the way it acted.
        oracles: the oracles' curves, the reference last.
        tasks: the held-out tasks.
    """

    stage: Stage
    iteration: int
    env_steps: int
    agents: Mapping[str, Curve]
    oracles: Mapping[str, Curve]
    tasks: HeldOutTasks

    def players(self) -> dict[str, Curve]:
        """All curves by the player's name; the agent's are set apart from an oracle's "greedy"."""
        return {**{f"agent_{name}": curve for name, curve in self.agents.items()}, **self.oracles}


def outcome_of(trainer: Trainer, pl_module: LightningModule, stage: Stage) -> Outcome:
    """Gathers the outcome of a stage that has just ended; the oracles play on the first call.

    Args:
        trainer: the trainer, whose datamodule holds the tasks.
        pl_module: the agent.
        stage: the stage that ended.

    Returns:
        The outcome, on whichever rank calls.
    """
    tasks = held_out_tasks(trainer, stage)
    return Outcome(
        stage=stage,
        iteration=cast(EvaluatedAgent, pl_module).iteration,
        env_steps=env_steps_of(pl_module),
        agents=cast(EvaluatedAgent, pl_module).latest_curves,
        oracles=tasks.oracle_curves(),
        tasks=tasks,
    )


def held_out_tasks(trainer: Trainer, stage: Stage) -> HeldOutTasks:
    """The held-out tasks of a stage, which the datamodule keeps as `held_out[stage]`."""
    tasks: Mapping[str, HeldOutTasks] = cast(Any, trainer).datamodule.held_out
    return tasks[stage]


def env_steps_of(pl_module: LightningModule) -> int:
    """The env steps that an agent has learnt from."""
    return int(cast(EvaluatedAgent, pl_module).env_steps)
