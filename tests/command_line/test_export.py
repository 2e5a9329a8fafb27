"""`python -m rl2_lightning.export` writes a program beside a checkpoint."""

from pathlib import Path

import pytest
import torch

from rl2_lightning import Agent
from rl2_lightning.agents.export import load_torch
from tests.builders import ROOT
from tests.command_line.program import run_module

CHECKPOINT = ROOT / "results" / "checkpoints" / "mab_n10_k5_seed1.ckpt"


def test_a_run_is_exported(tmp_path: Path) -> None:
    (tmp_path / "last.ckpt").write_bytes(CHECKPOINT.read_bytes())
    done = run_module("export", f"ckpt_path={tmp_path}")
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{tmp_path / 'last.pt2'} does what the agent does\n"
    program = load_torch((tmp_path / "last.pt2").read_bytes())
    agent = Agent.load(tmp_path / "last.ckpt")
    inputs = {
        "observation": torch.ones(3, 1),
        "begins": torch.ones(3, dtype=torch.bool),
        "previous_action": torch.zeros(3, dtype=torch.int64),
        "previous_reward": torch.zeros(3),
        "previous_done": torch.zeros(3, dtype=torch.bool),
        **{f"state_{i}": one for i, one in enumerate(agent.initial_state(3))},
    }
    expected = agent.session(3, greedy=True).act(torch.ones(3, 1))
    assert torch.equal(program(inputs)["action"], expected)
    again = run_module("export", f"ckpt_path={tmp_path}")
    assert again.returncode == 1
    assert again.stderr.startswith(f"error: {tmp_path / 'last.pt2'} exists: choose another path")


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "ckpt_path is missing: write ckpt_path=..."),
        (["ckpt_path=nowhere"], "ckpt_path=nowhere is not a file: give the path of a checkpoint"),
        ([f"ckpt_path={CHECKPOINT}", "format=tf"], "format=tf is unknown: use torch or onnx"),
        (["onnx"], "unknown argument onnx: known are ckpt_path, format, path, each as name=value"),
        (["format=onnx", "format=torch"], "format is given twice: give it once"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], told: str) -> None:
    done = run_module("export", *arguments)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith(f"error: {told}")
