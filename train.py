"""Trains or tests an agent: `python train.py experiment=mab_n10_k5`."""

import os
from contextlib import closing

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rl2_lightning.command_line import one_line_errors, put_flags_first
from rl2_lightning.config import check, register_schemas


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
@one_line_errors(in_job=True)
def run(cfg: DictConfig) -> float:
    """Checks, builds, fits, tests.

    Returns:
        The mean return of a trial on the test's tasks, played greedily: what a sweep maximises.
    """
    multirun = HydraConfig.get().mode == RunMode.MULTIRUN
    check(cfg, num_cores=os.cpu_count() or 1, multirun=multirun)

    # Heavy, and so only after the check.
    from rl2_lightning.build import build_data, build_learner, build_trainer, require_machine
    from rl2_lightning.learners.ranks import leave_other_ranks
    from rl2_lightning.parts import leave_out_foreign
    from rl2_lightning.session import (
        fit,
        quieten,
        require_checkpoints,
        restore_callbacks,
        take_weights,
        test_return,
    )

    quieten()
    leave_out_foreign(cfg, HydraConfig.get().overrides.task)
    require_machine(cfg)
    checkpoint = require_checkpoints(cfg)
    with closing(build_data(cfg)) as data:
        learner = build_learner(cfg, data)
        if checkpoint is not None:
            take_weights(learner, checkpoint, cfg)
        trainer = build_trainer(cfg, data, learner)
        last = None
        if cfg.mode == "train":
            last = fit(trainer, learner, data, cfg, checkpoint)
        elif checkpoint is not None:
            restore_callbacks(trainer, checkpoint)
        trainer.test(learner, data, ckpt_path=last, verbose=False, weights_only=True)
    leave_other_ranks()
    return test_return(trainer)


def main() -> None:
    """The command line."""
    register_schemas()
    with one_line_errors():
        put_flags_first()
        run()


if __name__ == "__main__":
    main()
