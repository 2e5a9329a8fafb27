"""Names in an untrusted checkpoint are neither built nor called, but reported in one line."""

import shutil
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

import results.evaluate
from rl2_lightning.agents.agent import Agent
from rl2_lightning.errors import UserError
from tests.command_line.program import PLAIN, call_program, mistake_told

READ = ("env", "trial", "collection", "agent", "memory", "learner")  # groups that every run reads
READ_TO_GO_ON = ("evaluation", "trainer")  # groups that are also read when resuming
OTHER_LEARNER = {("learner",), ("learner", "_target_")}  # changes make it another learner
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
    """Values that would leave a trace in a program that builds what it reads."""
    call = {"_target_": "os.system", "_args_": [f"touch {trace}"]}
    by_name = {"_target_": "os.system", "command": f"touch {trace}"}
    return [call, by_name, [call], f"touch {trace}\n\x1b[2J$(touch {trace})"]


@pytest.fixture(scope="module")
def trained(finished_run: Path) -> dict[str, Any]:
    """The content of a checkpoint written by the program."""
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


@pytest.mark.slow
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
            if field == "start_from" and path in OTHER_LEARNER:
                continue  # not read when starting a new training
            told = mistake_told(tmp_path, *PLAIN, f"{field}={place}")
            assert told.startswith(f"error: {field}={place} "), path
            assert not trace.exists(), path


def test_of_another_learner_nothing_is_built(tmp_path: Path, trained: dict[str, Any]) -> None:
    trace = tmp_path / "trace"
    for number, value in enumerate([*commands(trace), {"_target_": ["os.system"]}, None]):
        for path in OTHER_LEARNER:
            place = stored_with(trained, path, value, tmp_path)
            told = mistake_told(tmp_path, *PLAIN, f"ckpt_path={place}")
            assert told.startswith(f"error: ckpt_path={place} "), path
        run = f"hydra.run.dir={tmp_path / str(number)}"
        call_program(tmp_path, *PLAIN, f"start_from={place}", run)
        assert not trace.exists()


def test_what_no_run_looks_at_is_not_built(tmp_path: Path, trained: dict[str, Any]) -> None:
    trace = tmp_path / "trace"
    others = [name for name in trained["hyper_parameters"] if name not in READ]
    assert {"callbacks", "logger", "trainer"} <= set(others)
    for number, use in enumerate(("mode=test ckpt_path={}", "start_from={}")):
        content = trained
        for name in set(others) - set(READ_TO_GO_ON if "ckpt_path" in use else ()):
            place = stored_with(content, (name,), commands(trace)[0], tmp_path)
            content = torch.load(place, weights_only=True)
        run = f"hydra.run.dir={tmp_path / str(number)}"
        call_program(tmp_path, *PLAIN, *use.format(place).split(), run)
    assert not trace.exists()


@pytest.mark.parametrize("group", READ_TO_GO_ON)
def test_what_a_run_goes_on_with_is_not_built(
    tmp_path: Path, trained: dict[str, Any], group: str
) -> None:
    trace = tmp_path / "trace"
    fields = trained["hyper_parameters"][group]
    for path in ((group,), *((group, name) for name in fields)):
        place = stored_with(trained, path, commands(trace)[0], tmp_path)
        line = mistake_told(tmp_path, f"ckpt_path={place}")
        assert line.startswith(f"error: ckpt_path={place} ")
        assert not trace.exists(), path


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


@pytest.mark.slow
def test_no_field_of_an_earlier_format_is_built(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    content = {"state_dict": {"env_steps_done": torch.tensor(0)}, "hyper_parameters": FORMAT_1}
    for number, path in enumerate(fields_of(FORMAT_1)):
        place = stored_with(content, path, commands(trace)[0], tmp_path)
        field = ("ckpt_path", "start_from")[number % 2]
        told = mistake_told(tmp_path, *PLAIN, f"{field}={place}")
        assert told.startswith(f"error: {field}={place}"), path
        assert not trace.exists(), path


@pytest.mark.slow
def test_an_evaluation_of_other_sizes_builds_nothing(
    tmp_path: Path, trained: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    stored = {group: trained["hyper_parameters"][group] for group in READ}
    monkeypatch.chdir(tmp_path)
    for path in set(fields_of(stored)) - OTHER_LEARNER:
        place = stored_with(trained, path, commands(trace)[0], tmp_path)
        arguments = ["experiment=mab_n10_k5", f"ckpt_path={place}", "evaluation.other_sizes=true"]
        monkeypatch.setattr("sys.argv", ["results.evaluate", *arguments])
        with pytest.raises(SystemExit) as ended:
            results.evaluate.main()
        assert isinstance(ended.value.code, str), "a text gives exit code 1"
        assert ended.value.code.startswith("error: ")
        assert "\n" not in ended.value.code
        assert not trace.exists(), path


KEYS = (
    "state_dict",
    "epoch",
    "global_step",
    "pytorch-lightning_version",
    "loops",
    "callbacks",
    "optimizer_states",
    "lr_schedulers",
    "hparams_name",
    "hyper_parameters",
    "rl2_lightning",
)
VALUES = {
    "number": lambda victim: 3,
    "list": lambda victim: [3],
    "tensor": lambda victim: torch.ones(2, 3),
    "path": lambda victim: f"local://{victim}",
    "nested path": lambda victim: {"best_model_path": f"local://{victim}"},
    "huge": lambda victim: again_and_again(),
}
USES = {
    "resume": ("trainer.max_epochs=2", "callbacks.checkpoint.every_n_epochs=1"),
    "test": ("mode=test",),
}


def again_and_again() -> list[Any]:
    """Nested lists that are small in a file, but explode when expanded."""
    node: list[Any] = [3]
    for _ in range(28):
        node = [node, node]
    return node


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    folder = tmp_path / "victim"
    folder.mkdir()
    (folder / "precious").touch()
    return folder


def use(folder: Path, content: Any, *arguments: str) -> str | None:
    """Use a checkpoint; returns the error line, if the run fails."""
    place = folder / "stranger.ckpt"
    torch.save(content, place)
    run = (f"ckpt_path={place}", f"hydra.run.dir={folder / 'run'}")
    longer = ("collection.total_env_steps=48", *arguments)
    try:
        call_program(folder, *PLAIN, *longer, *run)
    except SystemExit as ended:
        line = ended.code
        assert isinstance(line, str)
        assert line.startswith(f"error: ckpt_path={place} ")
        assert "\n" not in line
        return line
    return None


def test_the_keys_are_those_of_a_checkpoint(trained: dict[str, Any]) -> None:
    assert set(trained) == set(KEYS)


@pytest.mark.slow
@pytest.mark.parametrize("key", KEYS)
def test_no_value_of_a_key_breaks_or_deletes_anything(
    tmp_path: Path, victim: Path, trained: dict[str, Any], key: str
) -> None:
    for kind, value in VALUES.items():
        for name, arguments in USES.items():
            if name == "test" and "path" not in kind:
                continue
            told = use(tmp_path, {**trained, key: value(victim)}, *arguments)
            shutil.rmtree(tmp_path / "run", ignore_errors=True)
            if key in ("state_dict", "hyper_parameters") or kind == "huge":
                assert told, (kind, name)
            if name == "resume" and key in ("loops", "optimizer_states"):
                assert told, (kind, name)
            assert (victim / "precious").exists(), (kind, name)


def test_a_strangers_callbacks_delete_nothing(
    tmp_path: Path, victim: Path, trained: dict[str, Any]
) -> None:
    (key,) = (name for name in trained["callbacks"] if name.startswith("ModelCheckpoint"))
    hostile = {**trained["callbacks"][key], "best_model_path": f"local://{victim}"}
    every = key.replace("'every_n_epochs': 10", "'every_n_epochs': 1")
    assert every != key
    content = {**trained, "callbacks": {key: hostile, every: hostile}}
    assert use(tmp_path, content, *USES["resume"]) is None
    assert (victim / "precious").exists()
    assert torch.load(tmp_path / "run" / "last.ckpt", weights_only=True)["epoch"] == 2
    (tmp_path / "run").rename(tmp_path / "first")
    # Lightning migrates them from the location in its first versions.
    old = {"checkpoint_callback_best_model_path": f"local://{victim}"}
    content = {**trained, **old, "pytorch-lightning_version": "0.0.1"}
    use(tmp_path, content, *USES["resume"])
    assert (victim / "precious").exists()


def moments(content: dict[str, Any]) -> dict[str, Any]:
    return content["optimizer_states"][0]["state"][0]


BROKEN = {
    "moment": lambda c: moments(c).update(exp_avg=torch.ones(2, 3)),
    "parameters": lambda c: c["optimizer_states"][0]["param_groups"][0]["params"].pop(),
    "loop": lambda c: c["loops"]["fit_loop"]["epoch_progress"].clear(),
    "schedulers": lambda c: c.pop("lr_schedulers"),
    "negative clock": lambda c: c["state_dict"].update({"clock.iterations_done": torch.tensor(-5)}),
    "other clock": lambda c: c["state_dict"].update({"clock.iterations_done": torch.tensor(5)}),
}


@pytest.mark.parametrize("change", BROKEN)
def test_what_cannot_be_resumed_from(tmp_path: Path, trained: dict[str, Any], change: str) -> None:
    content = deepcopy(trained)
    BROKEN[change](content)
    assert use(tmp_path, content, *USES["resume"])
    assert not (tmp_path / "run" / "last.ckpt").exists()
