"""Packages that only some environments need."""

from importlib.util import find_spec

import pytest

# The package that an extra of this one installs.
PACKAGES = {
    "atari": "ale_py",
    "metaworld": "metaworld",
    "minigrid": "minigrid",
    "mujoco": "mujoco",
}


def needs(extra: str) -> list[pytest.MarkDecorator]:
    """Marks of tests that play environments of an extra."""
    is_missing = find_spec(PACKAGES[extra]) is None
    reason = f"pip install rl2-lightning[{extra}]"
    return [pytest.mark.slow, pytest.mark.skipif(is_missing, reason=reason)]
