"""A family, a memory and a learner outside of the repository: one file and one YAML each."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from tests.house.command import run

ROOT = Path(__file__).parents[2]
PARTS = Path(__file__).parent / "own_parts"
SMALL = (
    "debug=fast",
    "learner.num_minibatches=2",
    "evaluation.test_tasks=8",
    "callbacks.checkpoint.every_n_epochs=1",
    "trainer.accelerator=cpu",
)
LOADS = """
import {module}
from rl2_lightning import Agent
print(sum(parameter.numel() for parameter in Agent.load("{checkpoint}").parameters()))
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's own folder."""
    folder = tmp_path / "own"
    shutil.copytree(PARTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def train(folder: Path, output: Path, *overrides: str, by_flag: bool = True) -> Path:
    """`python train.py` in an empty folder, which finds what is in the user's own."""
    configs = folder / "configs"
    place = ["--config-dir", configs] if by_flag else [f"hydra.searchpath=[file://{configs}]"]
    command = [sys.executable, ROOT / "train.py", *place, *SMALL, *overrides]
    output.mkdir()
    run([*command, f"hydra.run.dir={output}"], output, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    return output


def shown(output: Path) -> dict:
    """What the agent has reached in the test."""
    return json.loads((output / "summary.json").read_text())["agent"]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return torch.load(output / "last.ckpt", weights_only=True)["state_dict"]


def train_test_and_resume(tmp_path: Path, folder: Path, choice: str) -> tuple[Path, Path]:
    """All that a run can be asked for; gives the folders of the first part and of the second."""
    first = train(folder, tmp_path / "first", choice, by_flag=False)
    checkpoint = f"ckpt_path={first / 'last.ckpt'}"
    resumed = train(folder, tmp_path / "resumed", choice, checkpoint, "trainer.max_epochs=2")
    tested = train(folder, tmp_path / "tested", choice, checkpoint, "mode=test")
    assert shown(tested) == shown(first)
    assert not (tested / "last.ckpt").exists()
    assert int(weights(resumed)["clock.iterations_done"]) == 2
    return first, resumed


def test_a_family_needs_one_file(tmp_path: Path, folder: Path) -> None:
    first, resumed = train_test_and_resume(tmp_path, folder, "env=treasure")
    assert (first / "trial_paths.png").exists()
    references = json.loads((first / "summary.json").read_text())["references"]
    assert references["knows_the_side"]["trial_return"] == 4.0
    whole = train(folder, tmp_path / "whole", "env=treasure", "trainer.max_epochs=2")
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, weights(resumed)[name]), name


def test_a_memory_needs_one_file(tmp_path: Path, folder: Path) -> None:
    first, _ = train_test_and_resume(tmp_path, folder, "memory=leaky")
    program = LOADS.format(module="leaky", checkpoint=first / "last.ckpt")
    printed = run([sys.executable, "-c", program], tmp_path, PYTHONPATH=f"{folder}:{ROOT}")
    assert int(printed) > 0


def test_a_learner_needs_one_file(tmp_path: Path, folder: Path) -> None:
    train_test_and_resume(tmp_path, folder, "learner=a2c")


@pytest.mark.parametrize(("file", "most"), [("treasure", 100), ("leaky", 60), ("a2c", 60)])
def test_a_part_is_a_short_file(file: str, most: int) -> None:
    assert len((PARTS / f"{file}.py").read_text().splitlines()) < most
