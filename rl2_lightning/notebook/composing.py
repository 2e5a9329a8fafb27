"""Compose a config from Python, as the command line does."""

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from hydra import compose, initialize_config_dir
from hydra.errors import HydraException
from omegaconf import DictConfig, open_dict
from omegaconf.errors import OmegaConfBaseException

from rl2_lightning.agents.agent import Agent
from rl2_lightning.command_line import NO_CHOICE, explain
from rl2_lightning.config import register_schemas
from rl2_lightning.config_checks import check, require_known_tuning
from rl2_lightning.errors import UserError
from rl2_lightning.overrides import SEARCH_PATH
from rl2_lightning.parts import leave_out_foreign
from rl2_lightning.session import quieten
from rl2_lightning.trust import CONFIGS, require_trusted_names

Folder = str | PathLike[str]


def compose_config(
    overrides: Sequence[str], folder: Folder | None = None, config_dir: Folder | None = None
) -> DictConfig:
    """The checked config of `python train.py ...`.

    Args:
        overrides: fields, as on the command line.
        folder: folder of the run; None for a config that no run uses.
        config_dir: folder of the user's own configuration, like `--config-dir`.

    Raises:
        UserError: a field is unknown or its value wrong, or there is no such folder.
    """
    quieten()
    register_schemas()
    with _one_line():
        with initialize_config_dir(str(CONFIGS.resolve()), version_base="1.3"):
            cfg = compose("train", [*overrides, *_search_path(config_dir)])
            require_known_tuning(overrides, None if config_dir is None else Path(config_dir))
        with open_dict(cfg):
            cfg.output_dir = str(folder or "")
        if config_dir is not None:
            require_trusted_names(cfg, overrides, _own_folders())
        for name in ("ckpt_path", "start_from"):
            if cfg[name] is not None:
                raise UserError(f"{name}={cfg[name]} from Python: use the command line for it")
        check(cfg, num_cores=os.cpu_count() or 1, multirun=False)
        leave_out_foreign(cfg, overrides)
    return cfg


def require_same_spaces(agent: Agent, expected: Agent) -> None:
    """Check that an agent sees and does what the tasks show and take.

    Raises:
        UserError: it does not.
    """
    theirs, ours = expected.spec.to_plain(), agent.spec.to_plain()
    takes_any = ours["agent"]["policy_head"] == "action_queries"
    for name in ("observations",) if takes_any else ("observations", "actions"):
        if theirs[name] != ours[name]:
            raise UserError(
                f"the agent has {name} {ours[name]}, these tasks {theirs[name]}: use the "
                "experiment and the fields of env that it was trained with"
            )


def _own_folders() -> list[str]:
    """Where the program that calls this finds modules, without what is installed for Python."""
    installed = [Path(one).resolve() for one in (sys.prefix, sys.base_prefix)]
    folders = [Path(one).resolve() for one in sys.path]
    return [str(one) for one in folders if not any(map(one.is_relative_to, installed))]


def _search_path(config_dir: Folder | None) -> list[str]:
    if config_dir is None:
        return []
    folder = Path(config_dir).resolve()
    if not folder.is_dir():
        raise UserError(f"config_dir={config_dir} is not a folder: give one with groups like env/")
    escaped = str(folder).replace("'", "\\'")
    return [f"{SEARCH_PATH}=['file://{escaped}']"]


@contextmanager
def _one_line() -> Iterator[None]:
    """Raise what Hydra finds as an error of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        raise UserError(explain(error)) from None
    except ValueError as error:
        if NO_CHOICE not in str(error):
            raise
        raise UserError("an override names no file of its group, as in env=grid_navi") from None
