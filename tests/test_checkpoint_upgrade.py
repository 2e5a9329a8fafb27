"""Checkpoints of format 1 are converted to the current format, or rejected by name."""

import copy
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from rl2_lightning import Agent
from rl2_lightning.build import build_agent, build_data, build_learner, build_world
from rl2_lightning.checkpoint import Checkpoint, write_checkpoint
from rl2_lightning.checkpoint_upgrade import FAMILIES, upgrade
from rl2_lightning.errors import UserError
from rl2_lightning.stored import require_matching_checkpoint
from tests.builders import ROOT, compose_config
from tests.old_checkpoints import ALGORITHM, KINDS, Old, shared

GROUPS = ("env", "trial", "collection", "network", "algorithm")
FAMILY_FILES = sorted((ROOT / "configs" / "env").glob("*.yaml"))


@pytest.fixture(params=KINDS)
def old(request: pytest.FixtureRequest) -> Old:
    torch.manual_seed(0)
    return KINDS[request.param]()


def write(content: dict[str, Any], folder: Path) -> Path:
    torch.save(content, folder / "old.ckpt")
    return folder / "old.ckpt"


def run_of(path: Path, old: Old, mode: str = "test") -> DictConfig:
    """The configuration of a run that starts from a checkpoint."""
    return compose_config(
        path.parent,
        *(f"mode={mode}", f"ckpt_path={path}"),
        *("memory.hidden_size=8", "collection.num_trials=4", "learner.num_minibatches=1"),
        *("learner.critic.separate=false", "learner.critic.sees_task=false"),
        "learner.critic.hidden_sizes=[]",
        *old.overrides,
    )


def test_weights_have_the_names_of_today(old: Old, tmp_path: Path) -> None:
    state = Checkpoint.read(write(old.content(), tmp_path)).state_dict
    _, today = old.states()
    assert set(state) == set(today)
    for name, tensor in today.items():
        assert state[name].dtype == tensor.dtype
        assert torch.equal(state[name], tensor), name


def test_a_run_takes_them_all(old: Old, tmp_path: Path) -> None:
    cfg = run_of(write(old.content(), tmp_path), old)
    checkpoint = require_matching_checkpoint(cfg)
    learner = build_learner(cfg, build_data(cfg))
    checkpoint.load_into(learner)
    assert (learner.clock.env_steps, learner.clock.iterations) == (640, 16)
    assert checkpoint.agent_spec == learner.agent.spec.to_plain()


def test_settings_stand_in_their_groups(old: Old, tmp_path: Path) -> None:
    config = Checkpoint.read(write(old.content(), tmp_path)).config
    assert {"network", "algorithm"}.isdisjoint(config)
    assert config["seed"] == 3
    assert config["trial"] == old.trial
    assert config["collection"]["expected_rewards"] is False
    learnt = {name: value for name, value in config["learner"].items() if name in ALGORITHM}
    assert learnt == {**ALGORITHM, "_target_": "rl2_lightning.learners.ppo.PPO"}
    assert config["learner"]["critic"] == {
        "separate": old.network["separate"],
        "sees_task": old.network.get("critic_sees_task", False),
        "hidden_sizes": old.network["critic_hidden_sizes"],
    }
    assert config["callbacks"] == {}, "they named classes that have moved"


def test_an_agent_acts_as_it_did(tmp_path: Path) -> None:
    torch.manual_seed(0)
    old = shared()
    then, _ = old.states()
    agent = Agent.load(write(old.content(), tmp_path))
    inputs, state = agent.first_inputs(torch.ones(2, 1)), agent.initial_state(2)
    inputs = agent.next_inputs(
        inputs, torch.tensor([2, 0]), torch.ones(2, 1), torch.tensor([1.0, 0.0]), torch.ones(2)
    )
    step = agent.act(inputs, state, greedy=True)
    # Observation, previous action, reward and done.
    encoding = torch.tensor([[1.0, 0, 0, 1, 1, 1], [1, 1, 0, 0, 0, 1]])
    gru = [then[f"network.memories.shared.gru.{name}_l0"] for name in GRU_WEIGHTS]
    features = torch.gru_cell(encoding, torch.zeros(2, 8), *gru)
    head = (then[f"network.actor.module.0.module.0.{name}"] for name in ("weight", "bias"))
    log_probabilities = torch.nn.functional.linear(features, *head).log_softmax(-1)
    torch.testing.assert_close(step.features, features)
    assert torch.equal(step.action, log_probabilities.argmax(-1))
    torch.testing.assert_close(step.log_probability, log_probabilities.amax(-1))


GRU_WEIGHTS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")


def test_it_can_be_tested_but_not_resumed(tmp_path: Path) -> None:
    old = shared()
    path = write(old.content(), tmp_path)
    require_matching_checkpoint(run_of(path, old))
    with pytest.raises(UserError, match=r"old\.ckpt has only weights .* start a new training"):
        require_matching_checkpoint(run_of(path, old, mode="train"))


def test_a_training_begins_from_it(tmp_path: Path) -> None:
    old = shared()
    path = write(old.content(), tmp_path)
    cfg = run_of(path, old, mode="train")
    cfg.ckpt_path, cfg.start_from = None, str(path)
    learner = build_learner(cfg, build_data(cfg))
    learner.take_weights(require_matching_checkpoint(cfg, "start_from").state_dict)
    assert (learner.clock.env_steps, learner.clock.iterations) == (0, 0)
    # Trials of twice the length have twice the return.
    learner.value_scale.follow(2 * old.trial_steps)
    assert learner.value_scale.running_mean.item() == pytest.approx(2 * 0.5)


def test_what_was_upgraded_is_read_alike(old: Old, tmp_path: Path) -> None:
    first = Checkpoint.read(write(old.content(), tmp_path))
    write_checkpoint(first.content, tmp_path / "new.ckpt")
    again = Checkpoint.read(tmp_path / "new.ckpt")
    assert again.config == first.config
    assert again.agent_spec == first.agent_spec
    assert all(
        torch.equal(again.state_dict[name], weight) for name, weight in first.state_dict.items()
    )


def test_every_family_of_then_is_one_of_today() -> None:
    today = {OmegaConf.load(path).env._target_ for path in FAMILY_FILES}
    moved = {
        target.replace("rl2_lightning.envs.", "rl2_lightning.families.") for target in FAMILIES
    }
    assert len(FAMILIES) == 12
    assert moved <= today


@pytest.mark.parametrize("target", FAMILIES)
def test_every_family_gives_the_agent_of_a_run(target: str, tmp_path: Path) -> None:
    family = target.split(".")[2]
    cfg = compose_config(tmp_path, f"env={family}", "memory.hidden_size=8")
    fields = OmegaConf.to_container(cfg.env)
    content = shared().content()
    content["hyper_parameters"]["env"] = {**fields, "_target_": target}
    upgraded = Checkpoint(upgrade(content, "old.ckpt"), "old.ckpt")
    assert upgraded.config["env"] == fields
    assert upgraded.agent_spec == build_agent(cfg, build_world(cfg)).spec.to_plain()


def fields_of(node: dict[str, Any], prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, value in node.items():
        yield (*prefix, name)
        if isinstance(value, dict):
            yield from fields_of(value, (*prefix, name))


FIELDS = [
    (group, *field)
    for group in GROUPS
    for field in [(), *fields_of(shared().content()["hyper_parameters"][group])]
]


@cache
def shared_run() -> DictConfig:
    return run_of(Path("none.ckpt"), shared())


def planted(place: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A checkpoint with another value in one field of the configuration."""
    content = copy.deepcopy(shared().content())
    node = content["hyper_parameters"]
    for name in place[:-1]:
        node = node[name]
    node[place[-1]] = value
    return content


def refused(content: dict[str, Any], folder: Path) -> str:
    """The error for a checkpoint that a run should load."""
    path = write(content, folder)
    cfg = shared_run().copy()
    cfg.ckpt_path = str(path)
    with pytest.raises(UserError) as error:
        require_matching_checkpoint(cfg)
    assert "\n" not in str(error.value)
    assert str(path) in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("place", FIELDS, ids=".".join)
@pytest.mark.parametrize("kind", ["nested", "named", "referred to"])
def test_nothing_that_a_file_names_is_called(
    place: tuple[str, ...], kind: str, tmp_path: Path
) -> None:
    trace = tmp_path / "trace"
    called: list[str] = []
    OmegaConf.register_new_resolver("leave_a_trace", called.append, replace=True)
    call = {"_target_": "builtins.open", "_args_": [str(trace), "w"]}
    values = {"nested": call, "named": "pathlib.Path", "referred to": "${leave_a_trace:here}"}
    try:
        refused(planted(place, values[kind]), tmp_path)
    finally:
        OmegaConf.clear_resolver("leave_a_trace")
    assert not trace.exists()
    assert not called


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("env", "_target_"), "os.system", "has env._target_=os.system, which format 1"),
        (("env", "num_arms"), 1, "does not fit: env.num_arms=1 is out of range; use another"),
        (("env", "weight"), 1, "does not fit: unknown config key 'env.weight'; use another"),
        (("network", "memory", "_target_"), "torch.nn.GRU", "network.memory._target_=torch.nn.GRU"),
        (("network", "memory"), None, "has no settings of network.memory"),
        (("network", "depth"), 2, "unknown config key '.*network.depth'"),
        (
            ("algorithm", "_target_"),
            "A2C",
            "has algorithm._target_=A2C, which format 1 did not",
        ),
        (("algorithm", "momentum"), 0.9, "unknown config key '.*learner.momentum'"),
        (("trial",), [], "has no settings of trial"),
        (("trial", "episodes_per_trial"), None, "episodes_per_trial=None and .*=None, which is no"),
        (
            ("trial", "steps_per_trial"),
            3,
            "episodes_per_trial=4 and trial.steps_per_trial=3, which",
        ),
        (("trial", "episodes_per_trial"), 2**40, "episodes_per_trial=1099511627776 and"),
    ],
)
def test_settings_that_do_not_fit_are_told(
    place: tuple[str, ...], value: Any, words: str, tmp_path: Path
) -> None:
    content = planted(place, value)
    with pytest.raises(UserError, match=words):
        raise UserError(refused(content, tmp_path))


def test_sizes_beyond_all_memory_are_told(tmp_path: Path) -> None:
    fields = {"_target_": "rl2_lightning.envs.grid_navi.GridNavi", "size": 10**9, "horizon": 5}
    said = refused(planted(("env",), fields), tmp_path)
    assert "has env.size=1000000000, env.horizon=5, too large for this machine's memory" in said


@pytest.mark.parametrize(
    "name",
    [
        "network.actor.module.1.weight",
        "network.encoders.belief.layers.0.weight",
        "network.memories.shared.gru.",
        "network.critic.module.layers.0.weight",
        "agent.memory.gru.weight_ih_l0",
        "stowaway",
    ],
)
def test_weights_of_another_program_are_told(name: str, tmp_path: Path) -> None:
    content = shared().content()
    content["state_dict"][name] = torch.zeros(1)
    assert f"has unknown weights {name!r}" in refused(content, tmp_path)


def test_weights_of_two_agents_are_told(tmp_path: Path) -> None:
    content = shared().content()
    name = "network.memories.actor.gru.bias_hh_l0"
    content["state_dict"][name] = torch.zeros(24)
    assert f"has the weights {name!r} twice" in refused(content, tmp_path)


def test_weights_that_are_missing_are_told(tmp_path: Path) -> None:
    content = shared().content()
    del content["state_dict"]["network.memories.shared.gru.bias_hh_l0"]
    with pytest.raises(UserError, match=r"old\.ckpt lacks the weights agent\.memory\.gru\.bias_hh"):
        Agent.load(write(content, tmp_path))


def test_settings_within_themselves_are_told(tmp_path: Path) -> None:
    content = shared().content()
    content["hyper_parameters"]["env"]["num_arms"] = content["hyper_parameters"]
    assert "is not a whole checkpoint of this program" in refused(content, tmp_path)


def test_a_file_without_a_configuration_is_told(tmp_path: Path) -> None:
    content = shared().content()
    del content["hyper_parameters"]
    assert "has no configuration" in refused(content, tmp_path)
