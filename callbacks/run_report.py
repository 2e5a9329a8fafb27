"""Print a description of a run at its start, and its folder at its end."""

from typing import cast

from lightning.pytorch import Callback, LightningModule, Trainer
from rich import get_console

from rl2_lightning.callbacks.outcome import data_of, env_steps_of
from rl2_lightning.learners.learner import Learner


class RunReport(Callback):
    """Prints seed, device, sizes, budget and folder of a run, on rank zero.

    Args:
        dirpath: folder of the run.
        seed: seed of the run.
    """

    def __init__(self, dirpath: str, seed: int) -> None:
        self._folder = dirpath
        self._seed = seed
        self._is_described = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what will be trained."""
        learner = cast(Learner, pl_module)
        self._describe(trainer, learner)
        self._print(trainer, self._budget(trainer, learner))
        self._print(trainer, f"folder {self._folder}")

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print what will be tested, unless it has just been trained."""
        if not self._is_described:
            self._describe(trainer, cast(Learner, pl_module))

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print where the results were written."""
        self._print(trainer, f"written to {self._folder}")

    def _describe(self, trainer: Trainer, learner: Learner) -> None:
        self._is_described = True
        device = trainer.strategy.root_device.type
        count = f"{trainer.world_size} x {device}" if trainer.world_size > 1 else device
        sizes = [sum(p.numel() for p in part.parameters()) for part in (learner.agent, learner)]
        self._print(
            trainer,
            f"seed {self._seed}, {count}, {trainer.precision}; {type(learner).__name__} with "
            f"{type(learner.agent.memory).__name__}: {sizes[0]:,} parameters of the agent, "
            f"{sizes[1]:,} in total",
        )

    def _budget(self, trainer: Trainer, learner: Learner) -> str:
        plan = learner.plan
        steps = sum(stage.num_iterations * stage.steps_per_iteration for stage in plan.stages)
        line = f"budget {steps:,} env steps in {plan.num_iterations:,} iterations"
        if trainer.max_epochs is not None and trainer.max_epochs < plan.num_iterations:
            line += f", of which trainer.max_epochs stops after {trainer.max_epochs:,}"
        if learner.clock.iterations:
            line += (
                f"; resuming after iteration {learner.clock.iterations:,} and "
                f"{env_steps_of(learner):,} env steps"
            )
        trials = data_of(trainer).world.specimen
        at_most = " at most" if trials.task_env.ends_early else ""
        return f"{line}; a trial has {trials.max_steps:,} env steps{at_most}"

    def _print(self, trainer: Trainer, line: str) -> None:
        if trainer.is_global_zero:
            get_console().print(line, soft_wrap=True, highlight=False)
