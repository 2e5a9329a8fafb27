"""Checkpoints are complete and finite, or rejected in one line, and never written otherwise."""

import os
import stat
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from rl2_lightning import Agent
from rl2_lightning.checkpoint import FORMAT, SECTION, Checkpoint, write_checkpoint
from rl2_lightning.errors import NonFiniteLossError, UserError
from tests.checkpoints.contents import content_of, saved, told_of


def test_what_is_written_is_read(tmp_path: Path, agent: Agent) -> None:
    content = content_of(agent)
    path = tmp_path / "new" / "last.ckpt"
    write_checkpoint(content, path)
    found = Checkpoint.read(path)
    assert found.config == content["hyper_parameters"]
    assert found.agent_spec == agent.spec.to_plain()
    assert found.content.keys() == content.keys()
    assert found.state_dict.keys() == content["state_dict"].keys()
    found.require_optimizer()
    loaded = Agent.load(path)
    assert not loaded.training
    for name, tensor in agent.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)
    assert list(path.parent.iterdir()) == [path]


def with_number(content: dict[str, Any], place: str, number: float) -> dict[str, Any]:
    if place == "weights":
        content["state_dict"]["agent.policy.layers.0.bias"][1] = number
    elif place == "buffer":
        content["state_dict"]["value_scale.running_mean"] = torch.tensor([number])
    elif place == "optimiser":
        content["optimizer_states"][0]["state"][0]["exp_avg"][1] = number
    else:
        content["mine"] = {"deep": [0, (torch.tensor(number),)]}
    return content


PLACES = {
    "weights": "state_dict.agent.policy.layers.0.bias",
    "buffer": "state_dict.value_scale.running_mean",
    "optimiser": "optimizer_states.0.state.0.exp_avg",
    "elsewhere": "mine.deep.1.0",
}


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", PLACES)
def test_numbers_that_are_not_finite_are_not_read(
    tmp_path: Path, agent: Agent, place: str, number: float
) -> None:
    path = saved(with_number(content_of(agent), place, number), tmp_path)
    told = told_of(path, "ckpt_path")
    assert told == (
        f"ckpt_path={path} has non-finite numbers in {PLACES[place]}: use an earlier checkpoint"
    )


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
@pytest.mark.parametrize("place", PLACES)
def test_numbers_that_are_not_finite_are_not_written(
    tmp_path: Path, agent: Agent, place: str, number: float
) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(content_of(agent), path)
    kept = path.read_bytes()
    with pytest.raises(NonFiniteLossError, match=rf"^{PLACES[place]} is not finite: no checkpoint"):
        write_checkpoint(with_number(content_of(agent), place, number), path)
    assert path.read_bytes() == kept
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_that_is_cut_short_keeps_the_one_before(
    tmp_path: Path, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "last.ckpt"
    write_checkpoint(content_of(agent), path)
    kept = path.read_bytes()

    def break_down(content: object, file: Any) -> None:
        file.write(b"half")
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", break_down)
    with pytest.raises(OSError, match="no space left"):
        write_checkpoint(content_of(agent), path)
    assert path.read_bytes() == kept
    Checkpoint.read(path)


def test_the_folder_is_synced_after_the_rename(
    tmp_path: Path, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced, sync = [], os.fsync

    def note(file: int) -> None:
        is_folder = stat.S_ISDIR(os.fstat(file).st_mode)
        synced.append((is_folder, [path.name for path in tmp_path.iterdir()]))
        sync(file)

    monkeypatch.setattr(os, "fsync", note)
    write_checkpoint(content_of(agent), tmp_path / "last.ckpt")
    assert synced == [(False, [".last.ckpt.unfinished"]), (True, ["last.ckpt"])]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.999])
def test_a_file_that_was_cut(tmp_path: Path, agent: Agent, share: float) -> None:
    path = saved(content_of(agent), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    told = told_of(path)
    assert f" ({path.stat().st_size} bytes) is not a whole checkpoint of this program" in told


def test_a_byte_that_was_flipped(tmp_path: Path, agent: Agent) -> None:
    path = saved(content_of(agent), tmp_path)
    whole = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.file_size]
    assert len(members) > 6
    for info in members:
        # Past the member's own header; PyTorch itself compares no checksum of weights.
        name, extra = (
            int.from_bytes(whole[info.header_offset + at : info.header_offset + at + 2], "little")
            for at in (26, 28)
        )
        start = info.header_offset + 30 + name + extra
        for at in (start, start + info.file_size // 2, start + info.file_size - 1):
            changed = bytearray(whole)
            changed[at] ^= 1
            path.write_bytes(changed)
            assert "is not a whole checkpoint of this program" in told_of(path), info.filename


def test_a_folder_or_nothing_in_its_place(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none.ckpt"):
        assert told_of(path, "ckpt_path") == (
            f"ckpt_path={path} is not a file: give the path of a checkpoint"
        )


def without(*names: str) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {name: content[name] for name in content if name not in names}


def with_section(section: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda content: {**content, SECTION: section}


WRONG = {
    "a list": (lambda content: [content], "has no weights: it is not a checkpoint"),
    "a tensor": (lambda content: torch.ones(3), "has no weights"),
    "without weights": (without("state_dict"), "has no weights"),
    "weights in a list": (lambda content: {**content, "state_dict": [1]}, "has no weights"),
    "a number as weight": (
        lambda content: {**content, "state_dict": {"agent.a": 1.0}},
        "has no weights",
    ),
    "newer": (
        with_section({"format": FORMAT + 1, "agent": {}}),
        f"has format {FORMAT + 1}, this program reads up to {FORMAT}: use a newer one",
    ),
    "no format": (with_section({"agent": {}}), f"has a damaged section {SECTION}"),
    "no number": (with_section({"format": "2"}), f"has a damaged section {SECTION}"),
    "a switch": (with_section({"format": True}), f"has a damaged section {SECTION}"),
    "no section": (with_section([2]), f"has a damaged section {SECTION}"),
    "a reference": (
        lambda content: {**content, "hyper_parameters": {"env": {"a": ["${oc.env:HOME}"]}}},
        "has hyper_parameters.env.a.0='${oc.env:HOME}', which is not a plain value",
    ),
    "a reference in the agent": (
        with_section({"format": FORMAT, "agent": {"memory": {"kind": "${now:%Y}"}}}),
        f"has {SECTION}.agent.memory.kind=",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_no_checkpoint_of_this_program(tmp_path: Path, agent: Agent, wrong: str) -> None:
    change, words = WRONG[wrong]
    assert words in told_of(saved(change(content_of(agent)), tmp_path))


def test_a_container_that_holds_itself(tmp_path: Path, agent: Agent) -> None:
    content = content_of(agent)
    content["hyper_parameters"]["self"] = content
    assert "is not a whole checkpoint" in told_of(saved(content, tmp_path))


@pytest.mark.parametrize("left_out", ["optimizer_states", "loops", "hyper_parameters"])
def test_what_a_use_needs_besides(tmp_path: Path, agent: Agent, left_out: str) -> None:
    path = saved(without(left_out)(content_of(agent)), tmp_path)
    checkpoint = Checkpoint.read(path)
    Agent.load(path)
    if left_out == "hyper_parameters":
        with pytest.raises(UserError, match="has no configuration"):
            _ = checkpoint.config
    else:
        with pytest.raises(UserError, match="has only weights and no optimiser state"):
            checkpoint.require_optimizer()


def test_an_agent_that_the_file_does_not_tell(tmp_path: Path, agent: Agent) -> None:
    for section in ({"format": FORMAT}, {"format": FORMAT, "agent": [1]}):
        path = saved(with_section(section)(content_of(agent)), tmp_path)
        with pytest.raises(UserError, match="the checkpoint has no agent"):
            Agent.load(path)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda state: state.pop("agent.policy.layers.0.bias"), "lacks the weights agent.policy"),
        (
            lambda state: state.update({"agent.more": torch.ones(1)}),
            "also has the weights agent.more",
        ),
        (
            lambda state: state.update({"agent.policy.layers.0.bias": torch.ones(4)}),
            r"has agent.policy.layers.0.bias of shape \[4\], where this run has \[3\]",
        ),
        (
            lambda state: state.update(
                {"agent.policy.layers.0.bias": torch.ones(3, dtype=torch.float64)}
            ),
            r"has agent.policy.layers.0.bias of",
        ),
    ],
    ids=["fewer", "more", "shape", "dtype"],
)
def test_weights_that_do_not_fit(
    tmp_path: Path, agent: Agent, change: Callable[[dict[str, Any]], Any], told: str
) -> None:
    content = content_of(agent)
    change(content["state_dict"])
    with pytest.raises(UserError, match=told):
        Agent.load(saved(content, tmp_path))


def test_weights_are_all_taken_or_none(tmp_path: Path) -> None:
    module = nn.Linear(2, 3)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    state = {"weight": torch.ones(3, 2), "bias": torch.ones(4)}
    checkpoint = Checkpoint({"state_dict": state}, "some")
    with pytest.raises(UserError):
        checkpoint.load_into(module)
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
