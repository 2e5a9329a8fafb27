"""The commands of all pages do what they say: each is run, with small trainings."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.pages import CHANGES, PAGES, ROOT, Command, blocks_of, commands_of
from tests.house.reader import Reader, missing_extra

# Commands that are not run here, by how they begin, and why.
NOT_RUN = {
    "make notebooks": "tests/house/test_notebooks.py runs all cells",
    "python -m benchmarks.gymnasium": "tests/house/test_benchmarks.py has smaller sizes",
    "python -m benchmarks.memories": "tests/house/test_benchmarks.py has smaller sizes",
    "python -m benchmarks.peers": "tests/house/test_peers.py has smaller sizes",
    "python -m benchmarks.rendering": "tests/house/test_benchmarks.py has smaller sizes",
    "python -m benchmarks.scaling": "tests/house/test_scaling.py has smaller sizes",
    "python -m results.learners": "tests/results/test_learners.py has a smaller budget",
    "python -m results.memories": "tests/results/test_memories.py has a smaller budget",
    "python train.py trainer.precision=bf16-mixed": "CPUs may be slower: tests/test_precision.py",
    "python -m pytest": "these are the tests",
    "python3 -m venv": "tests run in one",
    "torchrun --nnodes=2": "tests/command_line/test_nodes.py runs both nodes",
    "srun": "it needs SLURM",
    "python train.py -m hydra/launcher=submitit_slurm": "it needs SLURM",
    "ray start": "tests/extras/test_ray.py starts it",
    "RAY_ADDRESS=auto": "tests/extras/test_ray.py joins a cluster",
    "jupyter lab": "tests/house/test_notebooks.py runs the notebooks",
    # Programs that a sentence names, without their arguments.
    "python -m rl2_lightning.export": "",
    "python -m rl2_lightning.look --config-dir": "",
    "python -m results.evaluate": "",
    "python -m results.holds 475 20": "",
}
# Of the rows of each table, whose weights and settings tests/results/test_kept_rows.py checks, one.
ROWS = ("mab_n10_k5", "mdp_n10", "two_step", "minigrid_crossing")
COMPLETE = ("ckpt_path=", "outputs/")  # arguments of commands that are more than a name
QUICK = ("README.md", "docs/quick_start.md")
TAKES_LONG = ("trainer.devices=2", "--multirun", " -m ")
# The tests that run the programs and read the settings that a page shows.
PROGRAMS = {
    "README.md": "test_readme.py",
    "docs/gymnasium.md": "test_gymnasium_page.py",
    "docs/own_learner.md": "test_own_pages.py",
    "docs/own_memory.md": "test_own_pages.py",
    "docs/own_tasks.md": "test_own_pages.py",
    "docs/python.md": "test_python_page.py",
    "docs/running.md": "test_running_page.py",
    "docs/serving.md": "test_serving_page.py",
    "docs/using_agents.md": "test_using_agents.py",
}


def is_run(command: Command) -> bool:
    """Whether it is neither one of `NOT_RUN` nor a name without arguments."""
    is_whole = any(one in command.text for one in COMPLETE)
    return not any(
        command.text.startswith(name) and (reason or not is_whole)
        for name, reason in NOT_RUN.items()
    )


RUN = {page: [one for one in commands_of(page) if is_run(one)] for page in PAGES if page != CHANGES}
ROW_COMMANDS = tuple(f"results.evaluate experiment={name} " for name in ROWS)
RUN["results/README.md"] = [
    command
    for command in RUN["results/README.md"]
    if "results.evaluate" not in command.text
    or (any(one in command.text for one in ROW_COMMANDS) and "_seed1" in command.text)
]


def test_what_is_not_run_is_on_a_page() -> None:
    texts = [command.text for page in PAGES if page != CHANGES for command in commands_of(page)]
    assert len(texts) > 250
    for name, reason in NOT_RUN.items():
        assert any(text.startswith(name) for text in texts), name
        for place in re.findall(r"tests/[\w/]+\.py", reason):
            assert (ROOT / place).is_file(), place


def test_each_page_with_a_program_has_a_test() -> None:
    having = {
        page for page in RUN if any(one.language in {"python", "yaml"} for one in blocks_of(page))
    }
    assert having == PROGRAMS.keys()
    assert all((ROOT / "tests" / "house" / file).is_file() for file in PROGRAMS.values())


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path
    shutil.rmtree(tmp_path)  # it has copies of all weights


def is_quick(page: str, command: Command) -> bool:
    return page in QUICK and not any(one in f"{command.text} " for one in TAKES_LONG)


def follow(folder: Path, page: str, commands: list[Command]) -> None:
    reader = Reader(folder, page)
    for command in commands:
        if missing_extra(command) is None:
            reader.do(command)


@pytest.mark.parametrize("page", QUICK)
def test_commands_run(folder: Path, page: str) -> None:
    follow(folder, page, [one for one in RUN[page] if is_quick(page, one)])


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUN if RUN[page]])
def test_commands_that_take_long_run(folder: Path, page: str) -> None:
    follow(folder, page, [one for one in RUN[page] if not is_quick(page, one)])
