"""The outcome of a validation or a test, for the callbacks that show or write it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, cast

from lightning.pytorch import Callback, LightningModule, Trainer

from rl2_lightning.callbacks.evaluation import HeldOutEvaluation, held_out_of
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.learners.learner import Learner

Stage = Literal["validation", "test"]

NOT_EVALUATED = (
    "callbacks.evaluation=null while other callbacks need its results: switch those off, too"
)


@dataclass(frozen=True)
class Outcome:
    """The curves of all players on the held-out tasks of a stage.

    Attributes:
        stage: "validation" or "test".
        iteration: number of iterations that the agent has been trained for.
        env_steps: number of env steps that it has been trained on.
        agents: the agent's curves, by the way it acted.
        references: the curves of the reference players, the reference last.
        held_out: the held-out tasks.
    """

    stage: Stage
    iteration: int
    env_steps: int
    agents: Mapping[str, Curve]
    references: Mapping[str, Curve]
    held_out: HeldOut

    def players(self) -> dict[str, Curve]:
        """All curves by the player's name, with the prefix "agent_" for the agent's."""
        agents = {f"agent_{name}": curve for name, curve in self.agents.items()}
        return {**agents, **self.references}


def outcome_of(trainer: Trainer, pl_module: LightningModule, stage: Stage) -> Outcome:
    """Gather the outcome of a stage that has just ended; reference players only play once.

    Args:
        trainer: the trainer, whose data module has the tasks.
        pl_module: the learner.
        stage: the stage that ended.

    Returns:
        The outcome, on any rank.
    """
    held_out = held_out_of(trainer, stage)
    clock = cast(Learner, pl_module).clock
    return Outcome(
        stage=stage,
        iteration=clock.iterations,
        env_steps=clock.env_steps,
        agents=evaluation_of(trainer).curves,
        references=held_out.reference_curves(),
        held_out=held_out,
    )


class OutcomeReader(Callback):
    """A callback that reads outcomes or findings, and so needs a `HeldOutEvaluation`."""


def require_evaluation(callbacks: Mapping[str, Callback]) -> None:
    """Check, before a run starts, that the callbacks have the results that they read.

    Args:
        callbacks: the callbacks by name.

    Raises:
        UserError: none evaluates the held-out trials.
    """
    if any(isinstance(callback, HeldOutEvaluation) for callback in callbacks.values()):
        return
    readers = [name for name, one in callbacks.items() if isinstance(one, OutcomeReader)]
    if readers:
        switches = " ".join(f"callbacks.{name}=null" for name in readers)
        raise UserError(f"{NOT_EVALUATED}: {switches}")


def evaluation_of(trainer: Trainer) -> HeldOutEvaluation:
    """The callback that has evaluated the held-out trials.

    Raises:
        UserError: it was switched off.
    """
    for callback in callbacks_of(trainer):
        if isinstance(callback, HeldOutEvaluation):
            return callback
    raise UserError(NOT_EVALUATED)


def callbacks_of(trainer: Trainer) -> list[Callback]:
    """The callbacks of a trainer, which its type does not declare."""
    callbacks: list[Callback] = cast(Any, trainer).callbacks
    return callbacks


def data_of(trainer: Trainer) -> TrialDataModule:
    """The data module of a run."""
    data: TrialDataModule = cast(Any, trainer).datamodule
    return data


def env_steps_of(pl_module: LightningModule) -> int:
    """The number of env steps that a learner has been trained on."""
    return cast(Learner, pl_module).clock.env_steps
