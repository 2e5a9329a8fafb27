"""The commands of all pages succeed: each is run, with small trainings.

Trainings and tests must write their results, `look`, `export` and `compare` their files. What the
results are is not compared to what the page says.
"""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.house.pages import (
    CHANGES,
    PAGES,
    ROOT,
    Command,
    blocks_of,
    commands_of,
    read_commands,
)
from tests.house.reader import (
    BEFORE,
    FEW,
    LATER_MAZES,
    OF_THE_TEST,
    SHORTENED,
    WHOLE_TRIALS,
    WRITES,
    Reader,
    missing_extra,
    run_folder,
    value_of,
)

# Commands that are not run here, by the words that they begin with, and why.
NOT_RUN = {
    "make notebooks": "tests/house/test_notebooks.py runs all cells",
    "python -m benchmarks.gymnasium": "tests/house/test_benchmarks.py has smaller sizes",
    "python -m benchmarks.memories": "tests/house/test_benchmarks.py has smaller sizes",
    "python -m benchmarks.costs": "tests/house/test_costs.py has smaller sizes",
    "python -m benchmarks.peers": "tests/house/test_peers.py has smaller sizes",
    "python -m benchmarks.peers.optimum": "tests/house/test_peers.py has smaller sizes",
    "python -m benchmarks.rendering": "tests/house/test_benchmarks.py has smaller sizes",
    "python -m benchmarks.scaling": "tests/house/test_scaling.py has smaller sizes",
    "python -m results.learners": "tests/results/test_learners.py has a smaller budget",
    "python -m results.memories": "tests/results/test_memories.py has a smaller budget",
    "python train.py trainer.accelerator=gpu": "tests/gpu/test_recorded.py has smaller sizes",
    "python train.py trainer.precision=bf16-mixed": "CPUs may be slower: tests/test_precision.py",
    "python -m pytest": "these are the tests",
    "python3 -m venv": "tests run in one",
    "torchrun --nnodes=2": "tests/command_line/test_nodes.py runs both nodes",
    "srun": "it needs SLURM",
    "python train.py -m hydra/launcher=submitit_slurm": "it needs SLURM",
    "ray start": "tests/extras/test_ray.py starts it",
    "RAY_ADDRESS=auto": "tests/extras/test_ray.py joins a cluster",
    "jupyter lab": "tests/house/test_notebooks.py runs the notebooks",
}
# Commands that sentences name without the arguments that they need.
NAMED_ALONE = {
    "python -m rl2_lightning.export",
    "python -m rl2_lightning.look --config-dir",
    "python -m results.evaluate",
    "python -m results.holds 475 20",
}
# Of the rows of each table, whose weights and settings tests/results/test_kept_rows.py checks, one.
ROWS = ("mab_n10_k5", "mdp_n10", "two_step", "minigrid_crossing")
QUICK = ("README.md", "docs/quick_start.md")
TAKES_LONG = ("trainer.devices=2", " -m ")
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


def begins_with(command: Command, words: str) -> bool:
    return f"{command.text} ".startswith(f"{words} ")


def is_run(command: Command) -> bool:
    """Whether it is neither one of `NOT_RUN` nor of `NAMED_ALONE`."""
    is_left_out = any(begins_with(command, words) for words in NOT_RUN)
    return not is_left_out and command.text not in NAMED_ALONE


ALL = [command for page in PAGES if page != CHANGES for command in commands_of(page)]
RUN = {page: [one for one in commands_of(page) if is_run(one)] for page in PAGES if page != CHANGES}
ROW_COMMANDS = tuple(f"results.evaluate experiment={name} " for name in ROWS)
RUN["results/README.md"] = [
    command
    for command in RUN["results/README.md"]
    if "results.evaluate" not in command.text
    or (any(one in command.text for one in ROW_COMMANDS) and "_seed1" in command.text)
]


def test_what_is_not_run_is_on_a_page() -> None:
    assert len(ALL) > 250
    for words, reason in NOT_RUN.items():
        assert any(begins_with(command, words) for command in ALL), words
        for place in re.findall(r"tests/[\w/]+\.py", reason):
            assert (ROOT / place).is_file(), place
    assert {command.text for command in ALL} >= NAMED_ALONE


def test_every_special_case_meets_a_command() -> None:
    run = [command for commands in RUN.values() for command in commands]
    lines = [f"{command.text} " for command in run]
    for part in (*WHOLE_TRIALS, *ROW_COMMANDS):
        assert any(part in line for line in lines), part
    for part in TAKES_LONG:
        assert any(part in f"{command.text} " for page in QUICK for command in RUN[page]), part
    words = {word for command in run for word in command.words}
    assert words >= {*SHORTENED, *LATER_MAZES, *FEW}
    assert all(any(word.startswith(start) for word in words) for start in OF_THE_TEST)
    given = [[*command.words] for command in run]
    assert {run_folder(value_of(one, "ckpt_path") or "") for one in given} >= BEFORE.keys()
    modules = [one for one in given if one[1:2] == ["-m"]]
    assert {(one[2], value_of(one, "format")) for one in modules} >= WRITES.keys()


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("false\npython train.py", "a line fails in\nfalse\n"),
        ("touch file", "touch: command not found"),
        ("/bin/touch file", "/bin/touch: restricted"),
        ("python train.py >file", "file: restricted"),
        ("echo words", "words"),
        ("python 'train.py", "unexpected EOF"),
    ],
)
def test_scripts_of_pages_must_succeed_and_run_nothing(script: str, message: str) -> None:
    with pytest.raises(AssertionError, match=f"^a page: .*{re.escape(message)}"):
        read_commands(["python first", script, "python last"], "a page")


def test_commands_have_all_variables_that_are_set_for_them() -> None:
    scripts = ["export B='\"$HOME\"'\nA=1 python train.py", "C='x y' make train", "D=1\nmake test"]
    first, second, third = read_commands(scripts, "a page")
    assert first == Command(("python", "train.py"), (("A", "1"), ("B", '"$HOME"')))
    assert second == Command(("make", "train"), (("C", "x y"),))
    assert third == Command(("make", "test"))


def test_readers_write_only_to_their_copy(folder: Path) -> None:
    Reader(folder, "README.md")
    for place in (".git", "docs/images", "mine", "outputs", "results", "runs.png"):
        assert (folder / place).resolve() == folder.resolve() / place


def test_commands_without_their_extra_are_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.house.test_page_commands.missing_extra", lambda command: "atari")
    command = Command(("python", "train.py", "experiment=atari_freeway"))
    with pytest.raises(pytest.skip.Exception, match=r"atari: .*experiment=atari_freeway"):
        follow(folder, "README.md", [command])


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
    left_out = []
    for command in commands:
        extra = missing_extra(command)
        if extra is None:
            reader.do(command)
        else:
            left_out.append(f"{extra}: {command.text}")
    if left_out:
        pytest.skip(f"all others succeed; left out for want of {'; '.join(left_out)}")


@pytest.mark.parametrize("page", QUICK)
def test_commands_run(folder: Path, page: str) -> None:
    follow(folder, page, [one for one in RUN[page] if is_quick(page, one)])


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in RUN if RUN[page]])
def test_commands_that_take_long_run(folder: Path, page: str) -> None:
    follow(folder, page, [one for one in RUN[page] if not is_quick(page, one)])
