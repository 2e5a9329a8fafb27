"""The arguments of the service."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from examples.personalisation.store import SYNCHRONOUS
from rl2_lightning.arguments import REQUIRED, read_arguments
from rl2_lightning.errors import UserError
from rl2_lightning.run_folder import checkpoint_in

ARGUMENTS = {
    "ckpt_path": REQUIRED,  # a checkpoint, or the folder of a run
    "database": "users.db",  # where users are kept; made unless it exists
    "host": "127.0.0.1",  # address to listen at; 0.0.0.0 for all of the machine
    "port": 8000,  # 0 for any that is free
    "idle_minutes": 15,  # after which a user is in the database alone
    "keep_days": 90,  # after which a user without a decision is deleted; inf for never
    "synchronous": "normal",  # or full, to survive a power cut as well
    "greedy": "false",  # true to take the most likely actions instead of sampling
}
LARGEST_PORT = 65535


@dataclass(frozen=True)
class ServiceSettings:
    """The settings of a service; see `ARGUMENTS`."""

    ckpt_path: str
    database: Path
    host: str = "127.0.0.1"
    port: int = 0
    idle_seconds: float = 15 * 60
    keep_seconds: float = 90 * 86400
    synchronous: str = "normal"
    greedy: bool = False

    @classmethod
    def read(cls, texts: Sequence[str]) -> "ServiceSettings":
        """The settings of a command line, `name=value` each.

        Raises:
            UserError: an argument is unknown, missing, or out of range.
        """
        given = read_arguments(texts, ARGUMENTS)
        idle = number_of(given, "idle_minutes", low=0) * 60
        keep = number_of(given, "keep_days", low=0) * 86400
        if keep <= idle:
            raise UserError(
                f"keep_days={given['keep_days']} is not longer than "
                f"idle_minutes={given['idle_minutes']}: an active user would be deleted"
            )
        return cls(
            checkpoint_in(given["ckpt_path"], "ckpt_path"),
            Path(given["database"]),
            given["host"],
            int(number_of(given, "port", low=0, high=LARGEST_PORT)),
            idle,
            keep,
            choice_of(given, "synchronous", SYNCHRONOUS),
            choice_of(given, "greedy", ("true", "false")) == "true",
        )


def number_of(
    given: Mapping[str, str], name: str, *, low: float, high: float = float("inf")
) -> float:
    """The number that an argument gives.

    Raises:
        UserError: it gives none within [low, high].
    """
    try:
        number = float(given[name])
    except ValueError:
        number = float("nan")
    if not low <= number <= high:
        raise UserError(f"{name}={given[name]}: give a number from {low:g} to {high:g}")
    return number


def choice_of(given: Mapping[str, str], name: str, choices: Sequence[str]) -> str:
    """The value of an argument that has a few.

    Raises:
        UserError: it has another one.
    """
    if given[name] not in choices:
        raise UserError(f"{name}={given[name]} is unknown: use {' or '.join(choices)}")
    return given[name]
