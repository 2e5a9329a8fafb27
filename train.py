"""Trains or tests an agent: `python train.py experiment=mab_n10_k5`."""

import os
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rl2_lightning.command_line import one_line_errors, put_flags_first
from rl2_lightning.config import check, register_schemas, starts_from_weights


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
    from rl2_lightning.algorithms.ranks import leave_other_ranks
    from rl2_lightning.build import (
        build_data,
        build_learner,
        build_trainer,
        require_fitting_weights,
        require_matching_checkpoint,
        take_weights,
    )
    from rl2_lightning.session import fit, quieten

    quieten()
    if cfg.ckpt_path is not None:
        require_matching_checkpoint(cfg)
    if starts_from_weights(cfg):
        require_matching_checkpoint(cfg, "start_from")
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    if cfg.ckpt_path is not None:
        require_fitting_weights(learner, cfg, "ckpt_path")
    if starts_from_weights(cfg):
        require_fitting_weights(learner, cfg, "start_from")
        take_weights(learner, data, Path(cfg.start_from))
    trainer = build_trainer(cfg, data)
    checkpoint = cfg.ckpt_path
    if cfg.mode == "train":
        checkpoint = fit(trainer, learner, data, cfg)
    trainer.test(learner, data, ckpt_path=checkpoint, verbose=False, weights_only=True)
    leave_other_ranks()
    return learner.latest_curves["greedy"].trial_return


def main() -> None:
    """The command line."""
    register_schemas()
    with one_line_errors():
        put_flags_first()
        run()


if __name__ == "__main__":
    main()
