"""The agent in the checkpoints."""

import pytest

from rl2_lightning import Agent
from tests.builders import bandit_trials, make_agent


@pytest.fixture
def agent() -> Agent:
    return make_agent(bandit_trials(3))
