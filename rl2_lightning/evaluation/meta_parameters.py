"""The figure of meta-parameters over the env steps of a training."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from rl2_lightning.evaluation.images import Picture
from rl2_lightning.evaluation.plots import AGENT_COLOURS

PANEL = 2.0  # height, in inches


def meta_parameter_figure(
    env_steps: Sequence[int], values: Mapping[str, Sequence[float]]
) -> Figure:
    """Draw each meta-parameter in a panel of its own.

    Args:
        env_steps: number of env steps after each iteration.
        values: the values after each iteration, by the meta-parameters' names; at least one.

    Returns:
        A figure outside of pyplot's state, for any backend.
    """
    figure = Picture(figsize=(7.0, 0.6 + PANEL * len(values)), dpi=110, layout="constrained")
    panels = figure.subplots(len(values), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, numbers) in zip(panels, values.items(), strict=True):
        marker = "o" if len(numbers) == 1 else ""
        axes.plot(env_steps, numbers, color=AGENT_COLOURS[0], marker=marker)
        axes.set_ylabel(name.replace("_", " "))
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", linewidth=0.5, alpha=0.4)
        axes.yaxis.set_major_locator(MaxNLocator(5))
        axes.ticklabel_format(axis="y", useOffset=False)
    panels[-1].set_xlabel("env steps")
    figure.suptitle(
        "meta-parameters, learnt by gradients through updates", x=0.01, ha="left", fontsize="medium"
    )
    return figure
