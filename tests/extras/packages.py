"""Packages that only some environments need."""

from importlib.util import find_spec

import pytest

# The package that an extra of this one installs.
PACKAGES = {
    "atari": "ale_py",
    "metaworld": "metaworld",
    "minigrid": "minigrid",
    "mujoco": "mujoco",
    "slurm": "hydra_plugins.hydra_submitit_launcher",
}


def _is_there(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:  # nor is the package that it is in
        return False


def needs(extra: str) -> list[pytest.MarkDecorator]:
    """Marks of tests that play environments of an extra."""
    is_missing = not _is_there(PACKAGES[extra])
    reason = f"pip install rl2-lightning[{extra}]"
    return [pytest.mark.slow, pytest.mark.skipif(is_missing, reason=reason)]
