"""Every backend in which environments can be played."""

from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from rl2_lightning.families.gymnasium.backends import BACKENDS

WITHOUT_RAY = pytest.mark.skipif(find_spec("ray") is None, reason="pip install rl2-lightning[ray]")
MARKS = {"ray": [WITHOUT_RAY, pytest.mark.slow]}


@pytest.fixture(scope="module")
def ray() -> Iterator[Any]:
    """Ray, started once, since that takes long."""
    import ray

    ray.init(log_to_driver=False, include_dashboard=False)
    yield ray
    ray.shutdown()


@pytest.fixture(params=[pytest.param(one, marks=MARKS.get(one, [])) for one in BACKENDS])
def backend(request: pytest.FixtureRequest) -> str:
    if request.param == "ray":
        request.getfixturevalue("ray")
    return request.param
