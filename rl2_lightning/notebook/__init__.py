"""What a notebook needs: build trials and agents, play, train, evaluate, plot.

The names of experiments and the overrides are those of the command line.
"""

from rl2_lightning.notebook.playing import make_agent, make_trials, pictures, play
from rl2_lightning.notebook.results import Evaluation, Training, plot, plot_training
from rl2_lightning.notebook.running import evaluate, train

__all__ = [
    "Evaluation",
    "Training",
    "evaluate",
    "make_agent",
    "make_trials",
    "pictures",
    "play",
    "plot",
    "plot_training",
    "train",
]
