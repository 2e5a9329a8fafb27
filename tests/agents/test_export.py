"""Exported programs do what the agent does, over whole trials."""

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from zipfile import ZipFile

import pytest
import torch
from torch import Tensor, nn

from rl2_lightning import keys
from rl2_lightning.agents import export
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.step_program import StepProgram
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from tests.agents.users import KINDS, NUM, agent_of, played
from tests.builders import bandit_trials, make_agent

READ = {"torch": export.load_torch, "onnx": export.load_onnx}
# To trace a program takes seconds: the quick part has a few, and of all others what is traced.
QUICK = {"torch": {"gru", "gated_transformer", "images", "normalised"}, "onnx": {"gru"}}
CASES = [
    *(("step", kind) for kind in KINDS),
    *(
        pytest.param(form, kind, marks=[] if kind in QUICK[form] else pytest.mark.slow)
        for form in QUICK
        for kind in KINDS
    ),
]


def named(shown: Tensor | Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    if isinstance(shown, Tensor):
        return {name: shown}
    return {f"{name}_{part}": one for part, one in shown.items()}


@torch.no_grad()
@pytest.mark.parametrize(("form", "kind"), CASES)
def test_programs_play_whole_trials(tmp_path: Path, form: str, kind: str) -> None:
    if form == "onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")
    agent, env = agent_of(kind)
    steps = played(agent, env, greedy=True)
    features, _ = agent.unroll(inputs_of(steps), agent.initial_state(NUM))
    expected = agent.policy(features)
    program = StepProgram(agent)
    if form != "step":
        agent.export(tmp_path / "agent", form)
        program = READ[form]((tmp_path / "agent").read_bytes())
    example = StepProgram(agent).example(NUM, torch.Generator().manual_seed(3))
    kept = {name: one.fill_(1) for name, one in example.items() if name.startswith("state_")}
    for t in range(steps.shape[1]):
        inputs = inputs_of(steps[:, t])
        given = {
            **named(inputs.observation, "observation"),
            "begins": torch.full((NUM,), t == 0),
            "previous_action": inputs.previous_action,
            "previous_reward": inputs.previous_reward.squeeze(1),
            "previous_done": inputs.previous_done.squeeze(1) > 0,
            **named(inputs.previous_observation, "previous_observation"),
            **kept,
        }
        found = program({name: given[name] for name in example})
        playing = steps[:, t][keys.MASK].squeeze(1)
        for name in found.keys() & {"logits", "loc", "scale"}:
            shape = found[name].shape
            wanted = (
                getattr(expected, name)[:, t] if name != "logits" else logits_of(expected)[:, t]
            )
            require_close(found[name][playing], wanted.reshape(shape)[playing].detach())
        torch.testing.assert_close(
            found["action"][playing], steps[:, t][keys.ACTION][playing], rtol=0, atol=1e-5
        )
        kept = {name: found[f"next_{name}"] for name in kept}
    assert t > 1


def logits_of(distribution) -> Tensor:
    base = getattr(distribution, "base_dist", distribution)
    return base.logits


def require_close(found: Tensor, expected: Tensor) -> None:
    """As probabilities, and up to a constant, for logits are normalised by the distribution."""
    if found.numel() == 0:
        return
    if found.shape[-1] > 1 and expected.exp().sum(-1).allclose(torch.ones(())):
        found = found.log_softmax(-1)
    largest = max([1.0, *expected.abs().flatten().tolist()])
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6 * largest)


def test_where_a_trial_begins_nothing_else_is_read(tmp_path: Path) -> None:
    agent, _ = agent_of("all inputs")
    agent.export(tmp_path / "agent.pt2")
    program = export.load_torch((tmp_path / "agent.pt2").read_bytes())
    step = StepProgram(agent)
    one, other = (step.example(5, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    other |= {"observation": one["observation"], "state_0": torch.randn(5, 8)}
    one["begins"][:] = other["begins"][:] = torch.tensor([True, True, False, True, False])
    first, second = program(one), program(other)
    assert not any(output.requires_grad for output in first.values())
    for name in ("logits", "next_state_0"):
        same = (first[name] == second[name]).all(1)
        assert same.tolist() == [True, True, False, True, False]


def test_a_program_needs_only_torch(tmp_path: Path) -> None:
    agent, _ = agent_of("gru")
    agent.export(tmp_path / "agent.pt2")
    text = """
import sys, torch
program = torch.export.load("agent.pt2").module()
inputs = {
    "observation": torch.ones(2, 1),
    "begins": torch.ones(2, dtype=torch.bool),
    "previous_action": torch.zeros(2, dtype=torch.int64),
    "previous_reward": torch.zeros(2),
    "previous_done": torch.zeros(2, dtype=torch.bool),
    "state_0": torch.zeros(2, 8),
    "state_1": torch.zeros(2, 8),
}
print(program(inputs)["action"].tolist())
assert not any(name.startswith("rl2_lightning") for name in sys.modules)
"""
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    expected = agent.session(2, greedy=True).act(torch.ones(2, 1)).tolist()
    assert json.loads(done.stdout) == expected


def test_a_file_describes_its_inputs(tmp_path: Path) -> None:
    agent, _ = agent_of("images")
    agent.export(tmp_path / "agent.pt2")
    with ZipFile(tmp_path / "agent.pt2") as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(export.DESCRIPTION))
        told = json.loads(archive.read(name))
    assert told["format"] == export.FORMAT
    assert told["inputs"]["observation_picture"]["dtype"] == "uint8"
    assert told["inputs"]["begins"] == {"shape": ["rows"], "dtype": "bool"}
    assert told["actions"] == agent.spec.to_plain()["actions"]


def test_an_exported_agent_stays_as_it_is(tmp_path: Path) -> None:
    agent, _ = agent_of("gru")
    agent.train()
    agent.export(tmp_path / "agent.pt2")
    assert agent.training
    assert all(parameter.requires_grad for parameter in agent.parameters())


def test_mistakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    agent, _ = agent_of("gru")
    (tmp_path / "there").write_text("kept")
    with pytest.raises(UserError, match=r"^format=tf is unknown: use torch or onnx$"):
        agent.export(tmp_path / "agent", "tf")
    with pytest.raises(UserError, match=r"there exists: choose another path"):
        agent.export(tmp_path / "there")
    with pytest.raises(UserError, match=r"none is not a folder"):
        agent.export(tmp_path / "none" / "agent")
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    told = r"^format=onnx needs onnx, onnxscript, onnxruntime: pip install 'rl2-lightning\[onnx\]'$"
    with pytest.raises(UserError, match=told):
        agent.export(tmp_path / "agent", "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert (tmp_path / "there").read_text() == "kept"


class Deciding(GRU):
    """A memory that cannot be exported: it looks at numbers."""

    def step(self, encoding, state):
        return super().step(encoding * (2 if encoding.sum() > 0 else 1), state)


class Drifting(GRU):
    """A memory whose program is another one than its step."""

    def step(self, encoding, state):
        return super().step(encoding * (2 if torch.compiler.is_compiling() else 1), state)


def with_memory(kind: type[GRU]) -> Agent:
    agent = make_agent(bandit_trials(2))
    memory = agent.memory
    assert isinstance(memory, nn.Module)
    memory.__class__ = kind
    return agent


def test_what_cannot_be_exported_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^GRU cannot be exported as torch: [^\n]*$"):
        with_memory(Deciding).export(tmp_path / "agent.pt2")
    with pytest.raises(UserError, match=r"^the program of format=torch differs from the agent by"):
        with_memory(Drifting).export(tmp_path / "agent.pt2")
    assert not list(tmp_path.iterdir())
