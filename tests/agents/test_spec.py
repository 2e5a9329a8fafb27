"""The agent's spec as plain data in a checkpoint."""

from dataclasses import dataclass

import pytest

from rl2_lightning.agents.agent import Agent, AgentSpec
from rl2_lightning.agents.memories.gru import GRU, RecurrentSettings
from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.agents.spaces import Box, Discrete
from rl2_lightning.errors import UserError
from tests.builders import MEMORIES, bandit_trials, corridor_trials, make_agent, point_trials
from tests.locks import lock_trials
from tests.views import view_trials

WORLDS = [bandit_trials, corridor_trials, point_trials, view_trials, lock_trials]


def test_an_observation_without_a_dimension() -> None:
    spec = AgentSpec(Box(()), Discrete(2), make_agent(bandit_trials(1)).spec.settings, GRU, {})
    with pytest.raises(UserError, match=r"a scalar without a dimension: give its spec the shape"):
        Agent(spec)


@pytest.mark.parametrize("make_trials", WORLDS)
@pytest.mark.parametrize("memory", MEMORIES)
def test_spec_is_told_in_plain_data_and_read_again(make_trials, memory: str) -> None:
    def is_plain(node: object) -> bool:
        if isinstance(node, dict):
            return all(type(key) is str and is_plain(value) for key, value in node.items())
        if isinstance(node, list):
            return all(map(is_plain, node))
        return node is None or type(node) in (str, int, float, bool)

    agent = make_agent(make_trials(3), memory, hidden_sizes=(4,))
    plain = agent.spec.to_plain()
    assert is_plain(plain)
    spec = AgentSpec.from_plain(plain)
    assert spec == agent.spec
    Agent(spec).load_state_dict(agent.state_dict())


@dataclass
class TitledSettings(RecurrentSettings):
    kind: int = 1


class Outside(GRU):
    """A user-defined memory."""


def test_a_memory_of_a_users_own_is_found_once_it_is_imported() -> None:
    plain = make_agent(bandit_trials(3)).spec.to_plain()
    plain["memory"]["kind"] = Outside.kind()
    assert AgentSpec.from_plain(plain).memory_class is Outside


class Titled(GRU):
    """A memory with a setting of the same name as an attribute of its class."""

    Settings = TitledSettings

    def __init__(self, input_size: int, kind: int, **settings: int) -> None:
        super().__init__(input_size, **settings)


def test_a_setting_may_be_called_kind() -> None:
    plain = make_agent(bandit_trials(3)).spec.to_plain()
    plain["memory"] = {"kind": Titled.kind(), "settings": {"kind": 5, "hidden_size": 3}}
    spec = AgentSpec.from_plain(plain)
    assert spec.memory_class is Titled
    assert spec.memory_settings["kind"] == 5
    assert AgentSpec.from_plain(spec.to_plain()) == spec


def with_settings(**settings: object) -> dict[str, object]:
    return {"kind": GRU.kind(), "settings": settings}


BOX = {"shape": [2], "dtype": "float32"}


@pytest.mark.parametrize(
    ("part", "value", "told"),
    [
        (
            "memory",
            {"kind": "os.system", "settings": {}},
            r"the checkpoint's memory is 'os.system', which is not",
        ),
        ("memory", {"kind": Memory.kind()}, r"memory is '.*\.Memory', which is not known here"),
        ("memory", {}, r"the checkpoint's memory is None"),
        ("memory", {"kind": {"_target_": "os.system"}}, r"memory is \{'_target_'"),
        ("memory", with_settings(size=3), r"unknown config key 'memory.size'"),
        (
            "memory",
            with_settings(hidden_size="x"),
            r"memory.hidden_size=.* has a wrong type",
        ),
        (
            "memory",
            with_settings(hidden_size={"_target_": "os.system"}),
            r"memory.hidden_size=.* has a wrong type",
        ),
        ("memory", {"kind": GRU.kind()}, r"the checkpoint has no memory"),
        ("memory", {**with_settings(), "hidden_size": 3}, r"the checkpoint has no memory"),
        ("agent", {"inputs": {"_target_": "os.system"}}, r"agent.inputs=.* has a wrong type"),
        ("agent", {"encoder_hidden_sizes": [0]}, r"agent.encoder_hidden_sizes=.* out of range"),
        ("agent", {"_target_": "os.system"}, r"unknown config key 'agent._target_'"),
        ("agent", None, r"the checkpoint has no agent"),
        ("observations", {**BOX, "_target_": "os.system"}, r"is not a space of observations"),
        ("observations", {**BOX, "shape": [0]}, r"is not a space of observations"),
        ("observations", {**BOX, "shape": {"_target_": "os.system"}}, r"is not a space"),
        ("observations", {**BOX, "dtype": "int64"}, r"is not a space of observations"),
        ("observations", {"spaces": {"a": {"_target_": "os.system"}}}, r"is not a space"),
        ("actions", {"n": {"_target_": "os.system"}}, r"\{'_target_': 'os.system'\} actions: a"),
        ("actions", {"n": 0}, r"0 actions: a checkpoint has to name their number"),
        ("actions", {"n": True}, r"True actions"),
        (
            "actions",
            {**BOX, "low": [float("nan")] * 2},
            r"is not a space of observations or actions",
        ),
        ("actions", BOX, r"actions of shape \[2\] without finite bounds are not supported"),
    ],
    ids=str,
)
def test_a_spec_that_is_not_one(part: str, value: object, told: str) -> None:
    plain = make_agent(bandit_trials(3)).spec.to_plain() | {part: value}
    with pytest.raises(UserError, match=told):
        Agent(AgentSpec.from_plain(plain))
