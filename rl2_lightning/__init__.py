"""RL² agents: recurrent policies whose activations become a learning algorithm."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rl2_lightning.agents.agent import Agent
    from rl2_lightning.notebook import (
        evaluate,
        make_agent,
        make_trials,
        pictures,
        play,
        plot,
        plot_training,
        train,
    )

__all__ = [
    "Agent",
    "evaluate",
    "make_agent",
    "make_trials",
    "pictures",
    "play",
    "plot",
    "plot_training",
    "train",
]


def __getattr__(name: str) -> Any:
    # Imported lazily: torch takes long to import, and a mistyped command should fail at once.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = "agents.agent" if name == "Agent" else "notebook"
    return getattr(import_module(f"{__name__}.{module}"), name)
