"""Both commands, run like from a user's shell."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.builders import ROOT
from tests.forked import run_forked, variables_of_a_shell
from tests.results.builders import FEW, train_tiny


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkout with empty tables and a checkpoint."""
    folder = tmp_path_factory.mktemp("checkout")
    (folder / "configs").symlink_to(ROOT / "configs")
    shutil.copytree(ROOT / "results" / "published", folder / "results" / "published")
    for module in (ROOT / "results").glob("*.py"):
        shutil.copy(module, folder / "results")
    train_tiny(folder, callbacks=("evaluation", "checkpoint", "summary"))
    return folder


def run_module(tree: Path, module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    # The current folder, and so the copy of the tables, comes first.
    env = {**variables_of_a_shell(), "PYTHONPATH": str(ROOT)}
    return run_forked(["-m", module, *arguments], tree, env)


def test_a_row_and_then_the_page(tree: Path) -> None:
    given = ("experiment=mab_n10_k5", "ckpt_path=last.ckpt", *FEW)
    done = run_module(tree, "results.evaluate", *given)
    assert done.returncode == 0, done.stderr
    (row,) = done.stdout.splitlines()
    assert row.startswith("agent_greedy ")
    assert row.endswith(", env_steps 480")
    results = tree / "results"
    for path in ("mab.csv", "checkpoints/mab_n10_k5_seed3.ckpt", "curves/mab_n10_k5_oracles.csv"):
        assert (results / path).is_file()
    done = run_module(tree, "results.render")
    assert done.returncode == 0, done.stderr
    assert "| n=10, k=5 | gru | 3 | " in (results / "README.md").read_text(encoding="utf-8")
    assert (results / "mab.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ("experiment=mab_n100_k5", "ckpt_path=last.ckpt"),
            "ckpt_path=last.ckpt was trained with trial.episodes_per_trial=10, "
            "experiment=mab_n100_k5 has 100: give the experiment that it was trained for",
        ),
        (
            ("experiment=mab_n10_k5", "ckpt_path=none.ckpt"),
            "ckpt_path=none.ckpt is not a file: give the path of a checkpoint",
        ),
        (
            ("experiment=mab_n10_k5", "ckpt_path=last.ckpt", "evaluation.test_task=3"),
            "unknown config key 'evaluation.test_task': did you mean 'test_tasks'?",
        ),
    ],
)
def test_a_mistake_is_told_in_one_line(tree: Path, arguments: tuple[str, ...], words: str) -> None:
    done = run_module(tree, "results.evaluate", *arguments)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {words}\n")
