"""Train or test an agent: `python train.py experiment=mab_n10_k5`."""

import math
import os
import sys
from contextlib import closing

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from rl2_lightning.command_line import checkpoint_named, one_line_errors, tidy_arguments
from rl2_lightning.config import register_schemas
from rl2_lightning.config_checks import check, require_known_tuning, settle_checkpoint
from rl2_lightning.launched import end_with_parent
from rl2_lightning.run_folder import claimed, removed_if_refused
from rl2_lightning.trust import require_trusted, require_trusted_hydra


def run(cfg: DictConfig) -> float:
    """Check the config, build the objects, train and test.

    Returns:
        The mean return of a trial on the test tasks in greedy play, which a sweep maximises.
    """
    hydra_cfg = HydraConfig.get()
    overrides = hydra_cfg.overrides.task
    require_trusted(cfg, overrides)
    require_known_tuning(overrides)
    settle_checkpoint(cfg, hydra_cfg.runtime.cwd)
    if cfg.ckpt_path is not None:
        from rl2_lightning.resumed_config import resumed

        cfg = resumed(cfg, overrides, hydra_cfg.overrides.hydra)
        require_trusted(cfg, overrides)
    multirun = hydra_cfg.mode == RunMode.MULTIRUN
    check(cfg, num_cores=os.cpu_count() or 1, multirun=multirun)

    # Heavy imports, and so only after the check.
    from rl2_lightning.build import build_data, build_learner, build_trainer, require_machine
    from rl2_lightning.learners.ranks import together
    from rl2_lightning.parts import leave_out_foreign
    from rl2_lightning.session import closing_test, fit, quieten, read_checkpoint, take_weights

    quieten()
    leave_out_foreign(cfg, overrides)
    require_machine(cfg)
    with together(), claimed(cfg, overrides), closing(build_data(cfg)) as data:
        checkpoint = read_checkpoint(cfg)
        learner = build_learner(cfg, data)
        if checkpoint is not None:
            take_weights(learner, checkpoint, cfg)
        trainer = build_trainer(cfg, data, learner)
        if cfg.mode == "train":
            fit(trainer, learner, data, cfg, checkpoint)
        return closing_test(trainer, learner, data, cfg, checkpoint)


@hydra.main(version_base="1.3", config_path="configs", config_name="train")
def job(cfg: DictConfig) -> float:
    """A single run, or one job of a sweep, whose result is nan if it fails."""
    with one_line_errors(in_job=True), removed_if_refused():
        return run(cfg)
    return math.nan


def main() -> None:
    """Run the command line."""
    end_with_parent()
    with one_line_errors():
        register_schemas()
        tidy_arguments()
        require_trusted_hydra(sys.argv[1:])
        if (path := checkpoint_named()) is not None:
            from rl2_lightning.stored_choices import add_choices

            add_choices(path)
        job()


if __name__ == "__main__":
    main()
