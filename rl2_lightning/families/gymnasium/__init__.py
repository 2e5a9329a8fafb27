"""Any Gymnasium environment as a family of tasks."""

from typing import Any

__all__ = ["GymnasiumTasks"]


def __getattr__(name: str) -> Any:
    # Imported lazily: processes that only step environments do without torch.
    if name == "GymnasiumTasks":
        try:
            from rl2_lightning.families.gymnasium.env import GymnasiumTasks
        except ModuleNotFoundError as error:
            if error.name != "gymnasium":
                raise
            remedy = "run `pip install rl2-lightning[gymnasium]`"
            raise ImportError(f"Gymnasium is not installed; {remedy}") from error
        return GymnasiumTasks
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
