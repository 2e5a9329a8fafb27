"""After how many episodes the runs of several seeds hold a return.

`python -m results.holds 475 20 outputs/a2c_cart_pole/*` tells, for each run, the first of 20
training episodes in a row whose mean return is at least 475, and the mean over the runs.
"""

import math
import sys
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from statistics import mean, stdev
from typing import NamedTuple

from omegaconf import OmegaConf

from rl2_lightning.command_line import one_line_errors
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.run_curves import read_run
from rl2_lightning.means import student_quantile


class Training(NamedTuple):
    """The training of a run.

    Attributes:
        returns: mean return of the trials of each iteration.
        num_trials: number of trials of an iteration, each of one episode.
    """

    returns: Sequence[float]
    num_trials: int


def read_training(folder: Path) -> Training:
    """Read the training of a run from its TensorBoard log.

    Raises:
        UserError: it has none, or its trials have several episodes.
    """
    config, log = folder / "config.yaml", folder / "tensorboard"
    if not config.exists() or not log.exists():
        raise UserError(f"{folder} is no run with a TensorBoard log: give folders of such runs")
    cfg = OmegaConf.load(config)
    if cfg.trial.episodes_per_trial != 1 or cfg.collection.curriculum:
        raise UserError(f"{folder} has several episodes a trial, or a curriculum: give other runs")
    returns: list[float] = read_run(log, "train/return").values.tolist()
    return Training(returns, cfg.collection.num_trials)


def first_hold(training: Training, level: float, num_episodes: int) -> int | None:
    """The first episode, from 1, of so many in a row whose mean return is at least a level.

    Args:
        training: the training.
        level: the return, in units of the reward.
        num_episodes: how many, rounded up to whole iterations.

    Returns:
        None if there is none.
    """
    length = math.ceil(num_episodes / training.num_trials)
    sums = [0.0, *accumulate(training.returns)]
    for start in range(len(training.returns) - length + 1):
        if sums[start + length] - sums[start] >= level * length - 1e-6:
            return start * training.num_trials + 1
    return None


def lines_of(level: float, num_episodes: int, folders: Sequence[Path]) -> list[str]:
    """The lines to print: one for each run, and one for all."""
    lines, found = [], []
    for folder in folders:
        training = read_training(folder)
        episode = first_hold(training, level, num_episodes)
        last = training.returns[-math.ceil(num_episodes / training.num_trials) :]
        held = "never" if episode is None else f"from episode {episode}"
        lines.append(f"{folder}: held {held}; mean of the last {num_episodes}: {mean(last):.1f}")
        found += [] if episode is None else [float(episode)]
    told = f"{len(found)} of {len(folders)} runs hold {level:g} for {num_episodes} episodes"
    if len(found) > 1:
        half_width = student_quantile(len(found) - 1) * stdev(found) / len(found) ** 0.5
        told += f", these from episode {mean(found):.0f} ± {half_width:.0f}"
    return [*lines, told]


def main() -> None:
    """Print what was found."""
    with one_line_errors():
        try:
            level, num_episodes = float(sys.argv[1]), int(sys.argv[2])
        except (IndexError, ValueError):
            raise UserError(
                "give a return, a number of episodes and folders of runs, as in "
                "python -m results.holds 475 20 outputs/a2c_cart_pole/*"
            ) from None
        for line in lines_of(level, num_episodes, [Path(name) for name in sys.argv[3:]]):
            print(line)


if __name__ == "__main__":
    main()
