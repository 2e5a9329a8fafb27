"""What a stranger's checkpoint names is neither built nor called, and told in one line."""

from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

import results.evaluate
from rl2_lightning.agents.agent import Agent
from rl2_lightning.errors import UserError
from tests.command_line.program import SMALL, call_program, mistake_told

READ = ("env", "trial", "collection", "agent", "memory", "learner")  # groups that a run looks at
FORMAT_1 = {
    "env": {"_target_": "rl2_lightning.envs.bernoulli_bandit.BernoulliBandit", "num_arms": 5},
    "trial": {"episodes_per_trial": 10, "steps_per_trial": None, "continues": False},
    "collection": {"num_trials": 8, "total_env_steps": 16, "window": None, "burn_in": 0},
    "network": {
        "memory": {
            "_target_": "rl2_lightning.networks.memory.gru.GRU",
            "_partial_": True,
            "hidden_size": 64,
            "num_layers": 1,
        },
        "separate": False,
        "inputs": ["previous_action"],
        "encoder_hidden_sizes": [],
        "actor_hidden_sizes": [],
        "critic_hidden_sizes": [],
    },
    "algorithm": {"_target_": "rl2_lightning.algorithms.ppo.PPO", "learning_rate": 1e-3},
}


def fields_of(node: Any, *path: str) -> Iterator[tuple[str, ...]]:
    """The path to each group and field of nested dictionaries."""
    for key, value in node.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from fields_of(value, *path, key)


def commands(trace: Path) -> list[Any]:
    """Values with which a program that builds what it reads would leave a trace."""
    call = {"_target_": "os.system", "_args_": [f"touch {trace}"]}
    by_name = {"_target_": "os.system", "command": f"touch {trace}"}
    return [call, by_name, [call], f"touch {trace}\n\x1b[2J$(touch {trace})"]


@pytest.fixture(scope="module")
def trained(finished_run: Path) -> dict[str, Any]:
    """A checkpoint as the program writes it."""
    return torch.load(finished_run / "last.ckpt", weights_only=True)


def stored_with(content: dict[str, Any], path: tuple[str, ...], value: Any, folder: Path) -> Path:
    """The checkpoint with another value in one place of its config, as a file."""
    changed = {**content, "hyper_parameters": deepcopy(content["hyper_parameters"])}
    *groups, name = path
    node = changed["hyper_parameters"]
    for group in groups:
        node = node[group]
    node[name] = value
    place = folder / "stranger.ckpt"
    torch.save(changed, place)
    return place


def test_no_stored_field_is_built(tmp_path: Path, trained: dict[str, Any]) -> None:
    trace = tmp_path / "trace"
    stored = {group: trained["hyper_parameters"][group] for group in READ}
    paths = list(fields_of(stored))
    assert len(paths) > 35
    for number, path in enumerate(paths):
        call, *others = commands(trace)
        for value in (call, others[number % len(others)]):
            place = stored_with(trained, path, value, tmp_path)
            field = ("ckpt_path", "start_from")[number % 2]
            told = mistake_told(tmp_path, *SMALL, f"{field}={place}")
            assert told.startswith(f"error: {field}={place} "), path
            assert not trace.exists(), path


def test_what_no_run_looks_at_is_not_built(tmp_path: Path, trained: dict[str, Any]) -> None:
    trace = tmp_path / "trace"
    others = [name for name in trained["hyper_parameters"] if name not in READ]
    assert {"callbacks", "logger", "trainer"} <= set(others)
    content = trained
    for name in others:
        place = stored_with(content, (name,), commands(trace)[0], tmp_path)
        content = torch.load(place, weights_only=True)
    for use in (("mode=test", f"ckpt_path={place}"), (f"start_from={place}",)):
        call_program(tmp_path, *SMALL, *use, f"hydra.run.dir={tmp_path / 'run'}")
    assert not trace.exists()


@pytest.mark.parametrize("part", ["observations", "actions", "agent", "memory"])
def test_no_part_of_an_agent_is_built(tmp_path: Path, trained: dict[str, Any], part: str) -> None:
    trace = tmp_path / "trace"
    spec = trained["rl2_lightning"]["agent"]
    paths = [(part,), *fields_of(spec[part], part)]
    for path in paths:
        for value in commands(trace):
            changed = deepcopy(spec)
            *groups, name = path
            node = changed
            for group in groups:
                node = node[group]
            node[name] = value
            place = tmp_path / "stranger.ckpt"
            torch.save({**trained, "rl2_lightning": {"format": 2, "agent": changed}}, place)
            with pytest.raises(UserError):
                Agent.load(place)
            assert not trace.exists(), path


def test_no_field_of_an_earlier_format_is_built(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = {"state_dict": {"env_steps_done": torch.tensor(0)}, "hyper_parameters": FORMAT_1}
    for number, path in enumerate(fields_of(FORMAT_1)):
        place = stored_with(content, path, commands(trace)[0], tmp_path)
        field = ("ckpt_path", "start_from")[number % 2]
        told = mistake_told(tmp_path, *SMALL, f"{field}={place}")
        assert told.startswith(f"error: {field}={place}"), path
        assert not trace.exists(), path


def test_an_evaluation_of_other_sizes_builds_nothing(
    tmp_path: Path, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    stored = {group: trained["hyper_parameters"][group] for group in READ}
    monkeypatch.chdir(tmp_path)
    for path in fields_of(stored):
        place = stored_with(trained, path, commands(trace)[0], tmp_path)
        arguments = ["experiment=mab_n10_k5", f"ckpt_path={place}", "evaluation.other_sizes=true"]
        monkeypatch.setattr("sys.argv", ["results.evaluate", *arguments])
        with pytest.raises(SystemExit) as ended:
            results.evaluate.main()
        assert isinstance(ended.value.code, str), "a text gives exit code 1"
        assert ended.value.code.startswith("error: ")
        assert "\n" not in ended.value.code
        assert not trace.exists(), path
