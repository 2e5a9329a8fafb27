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
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rl2_lightning.command_line import one_line_errors
from rl2_lightning.errors import UserError

# Student's quantiles at 97.5 %, for 2 to 30 runs; for more, that of the normal distribution.
QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086),
    *(2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045),
)


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
    config, events = folder / "config.yaml", EventAccumulator(str(folder / "tensorboard"))
    if not config.exists() or not (folder / "tensorboard").exists():
        raise UserError(f"{folder} is no run with a TensorBoard log: give folders of such runs")
    cfg = OmegaConf.load(config)
    if cfg.trial.episodes_per_trial != 1 or cfg.collection.curriculum:
        raise UserError(f"{folder} has several episodes a trial, or a curriculum: give other runs")
    # A resumed run repeats the iterations after its checkpoint.
    by_step = {one.step: one.value for one in events.Reload().Scalars("train/return")}
    returns = [by_step[step] for step in sorted(by_step)]
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


def half_width(values: Sequence[float]) -> float:
    """Half the width of Student's 95 % interval of a mean."""
    place = len(values) - 2
    quantile = QUANTILES[place] if place < len(QUANTILES) else 1.96
    return quantile * stdev(values) / len(values) ** 0.5


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
        told += f", these from episode {mean(found):.0f} ± {half_width(found):.0f}"
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
