"""Untrusted plain data that is not a checkpoint is rejected early, before memory is allocated."""

import copy
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rl2_lightning import Agent
from rl2_lightning.checkpoint import SECTION, Checkpoint, write_checkpoint
from rl2_lightning.checkpoint_content import leaves_in
from rl2_lightning.errors import UserError
from rl2_lightning.learners.checkpoint_io import SafeCheckpointIO
from tests.checkpoints.contents import content_of, saved, told_of


def nested() -> torch.Tensor:
    return torch.nested.nested_tensor([torch.ones(2), torch.ones(3)])


WEIGHTS: dict[str, tuple[Callable[[], Any], str]] = {
    "meta": (lambda: torch.ones(3, device="meta"), "on meta"),
    "sparse": (lambda: torch.ones(3).to_sparse(), "a tensor of torch.sparse_coo and"),
    "rows": (lambda: torch.ones(3, 3).to_sparse_csr(), "a tensor of torch.sparse_csr and"),
    "quantised": (
        lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8),
        "not a plain",
    ),
    "nested": (nested, "not a plain tensor"),
    "expanded": (lambda: torch.ones(1).expand(2**42), "too little data for it"),
    "overlapping": (lambda: torch.ones(9).as_strided((5, 5), (1, 1)), "too little data for it"),
    "bytes": (lambda: torch.ones(3).to(torch.float8_e5m2), "float8_e5m2"),
}


@pytest.mark.parametrize("place", ["state_dict", "optimizer_states", "beside"])
@pytest.mark.parametrize("kind", WEIGHTS)
def test_tensors_that_are_none(tmp_path: Path, agent: Agent, kind: str, place: str) -> None:
    content = content_of(agent)
    make, words = WEIGHTS[kind]
    if place == "state_dict":
        content["state_dict"]["agent.policy.layers.0.bias"] = make()
    elif place == "optimizer_states":
        content["optimizer_states"][0]["state"][0]["exp_avg"] = make()
    else:
        content["beside"] = {"deep": [make()]}
    path = saved(content, tmp_path)
    told = told_of(path)
    # Some are rejected by PyTorch itself.
    assert (place in told and words in told) or "is not a whole checkpoint" in told
    with pytest.raises(UserError):
        Agent.load(path)


def test_a_tensor_that_could_not_be_read_is_not_written(tmp_path: Path, agent: Agent) -> None:
    content = content_of(agent)
    content["state_dict"]["agent.mine"] = torch.ones(1).expand(5)
    with pytest.raises(UserError, match="could not be read back"):
        write_checkpoint(content, tmp_path / "some.ckpt")
    assert not list(tmp_path.iterdir())


def shared(levels: int) -> list[Any]:
    node = ["word"]
    for _ in range(levels):
        node = [node, node]
    return node


def deep(levels: int) -> list[Any]:
    node: list[Any] = []
    for _ in range(levels):
        node = [node]
    return node


SETTINGS: dict[str, tuple[Callable[[], Any], str]] = {
    "shared": (lambda: shared(10), "has a list in "),
    "number": (lambda: 10**30, "has a large number in "),
    "tensor": (lambda: torch.ones(3), "has a Tensor in "),
    "set": (lambda: {1, 2}, "has a set in "),
    "key": (lambda: {3: 4}, "has a dict in "),
    "bytes": (lambda: b"ab", "has a bytes in "),
    "deep": (lambda: deep(200), "is not a whole checkpoint"),
}


@pytest.mark.parametrize("place", ["hyper_parameters", SECTION])
@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_that_are_not_plain(tmp_path: Path, agent: Agent, kind: str, place: str) -> None:
    content = content_of(agent)
    make, words = SETTINGS[kind]
    content[place]["agent"] = {"mine": make()}
    assert words in told_of(saved(content, tmp_path))


@pytest.mark.parametrize("place", ["beside", "pytorch-lightning_version", "callbacks"])
def test_lists_that_are_held_again_and_again(tmp_path: Path, agent: Agent, place: str) -> None:
    content = {**content_of(agent), place: shared(25)}
    assert "is not a whole checkpoint" in told_of(saved(content, tmp_path))
    Agent.load(saved({**content, place: shared(10)}, tmp_path))
    assert [name for name, _ in leaves_in(shared(20))] == [".".join("0" * 21)]


def test_a_key_that_is_no_word(tmp_path: Path, agent: Agent) -> None:
    content = content_of(agent)
    content["state_dict"][3] = torch.ones(3)
    assert "has no weights" in told_of(saved(content, tmp_path))


def test_what_hangs_on_the_weights_is_not_taken(tmp_path: Path, agent: Agent) -> None:
    content = content_of(agent)
    content["state_dict"]._metadata = 3
    path = saved(content, tmp_path)
    assert type(Checkpoint.read(path).content["state_dict"]) is dict
    Agent.load(path)


def test_a_compressed_file(tmp_path: Path, agent: Agent) -> None:
    path = saved(content_of(agent), tmp_path)
    small = tmp_path / "small.ckpt"
    with zipfile.ZipFile(path) as whole, zipfile.ZipFile(small, "w", zipfile.ZIP_DEFLATED) as other:
        for member in whole.namelist():
            other.writestr(member, whole.read(member))
    assert "is not a whole checkpoint" in told_of(small)


HUGE = {
    "hidden": ("memory", {"settings": {"hidden_size": 10**8}}),
    "layers": ("memory", {"settings": {"num_layers": 10**9}}),
    "observation": ("observations", {"shape": [10**9]}),
    "observations": ("observations", {"shape": [10**9, 10**9, 10**9]}),
    "actions": ("actions", {"n": 10**7}),
    "more actions": ("actions", {"n": 10**12}),
    "layer": ("agent", {"encoder_hidden_sizes": [10**9, 10**9]}),
}


@pytest.mark.parametrize("kind", HUGE)
def test_sizes_are_compared_before_memory_is_taken(
    tmp_path: Path, agent: Agent, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = content_of(agent)
    part, fields = HUGE[kind]
    spec = content[SECTION]["agent"][part]
    for name, value in fields.items():
        spec[name] = {**spec[name], **value} if isinstance(value, dict) else value
    path = saved(content, tmp_path)
    built = []
    monkeypatch.setattr(torch.nn.init, "orthogonal_", lambda weight, *_: built.append(weight))
    with pytest.raises(UserError) as told:
        Agent.load(path)
    assert "\n" not in str(told.value)
    assert all(weight.device.type == "meta" for weight in built)


def test_buffers_that_no_weight_answers_for(tmp_path: Path, agent: Agent) -> None:
    content = content_of(agent)
    spec = content[SECTION]["agent"]
    spec["actions"]["n"] = 30_000
    spec["agent"]["inputs"] = ["observation"]
    for name in ("weight", "bias"):
        key = f"agent.policy.layers.0.{name}"
        old = content["state_dict"][key]
        content["state_dict"][key] = torch.zeros(30_000, *old.shape[1:])
    size = agent.spec.observations.size
    rows = content["state_dict"]["agent.memory.gru.weight_ih_l0"].shape[0]
    content["state_dict"]["agent.memory.gru.weight_ih_l0"] = torch.zeros(rows, size)
    with pytest.raises(UserError, match=r"takes 36\d+ bytes beside its weights"):
        Agent.load(saved(content, tmp_path))


def test_a_name_that_no_module_takes(tmp_path: Path, agent: Agent) -> None:
    content = content_of(agent)
    box = {"shape": [3, 30, 30], "dtype": "uint8"}
    content[SECTION]["agent"]["observations"] = {"spaces": {"a.b": box}}
    with pytest.raises(UserError, match="cannot be built: KeyError"):
        Agent.load(saved(content, tmp_path))


def evil_callbacks(victim: Path) -> dict[str, Any]:
    state = {"best_model_path": f"local://{victim}", "dirpath": None, "best_model_score": None}
    key = (
        "ModelCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 0, "
        "'every_n_epochs': 1, 'train_time_interval': None}"
    )
    return {key: state, "Summary": {"training_seconds": 3.5, "path": str(victim)}}


def test_of_callbacks_a_number_of_seconds_is_taken(tmp_path: Path, agent: Agent) -> None:
    content = {**content_of(agent), "callbacks": evil_callbacks(tmp_path)}
    read = Checkpoint.read(saved(content, tmp_path)).content
    assert read["callbacks"] == {"Summary": {"training_seconds": 3.5}}


@pytest.mark.parametrize("seconds", [3, "3", float("nan"), float("inf"), -1.0, None, [2.0]])
def test_seconds_that_are_none(tmp_path: Path, agent: Agent, seconds: Any) -> None:
    for state in ({"training_seconds": seconds}, seconds):
        content = {**content_of(agent), "callbacks": {"Summary": state}}
        assert Checkpoint.read(saved(content, tmp_path)).content["callbacks"] == {}


def test_a_run_removes_nothing_but_its_checkpoints(tmp_path: Path, agent: Agent) -> None:
    plugin = SafeCheckpointIO()
    own, folder, other = tmp_path / "own.ckpt", tmp_path / "folder", tmp_path / "other.ckpt"
    folder.mkdir()
    other.touch()
    plugin.save_checkpoint(copy.deepcopy(content_of(agent)), own)
    for victim in (folder, other, tmp_path, f"local://{folder}", f"file://{other}"):
        with pytest.raises(UserError, match="is not a checkpoint of this run: it is not removed"):
            plugin.remove_checkpoint(victim)
    assert folder.exists()
    assert other.exists()
    plugin.remove_checkpoint(own)
    assert not own.exists()
