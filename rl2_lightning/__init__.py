"""RL² agents: recurrent policies whose activations become a learning algorithm."""

from typing import Any

__all__ = ["Agent"]


def __getattr__(name: str) -> Any:
    # Imported lazily: torch takes long to import, and a mistyped command should fail at once.
    if name == "Agent":
        from rl2_lightning.agents.agent import Agent

        return Agent
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
