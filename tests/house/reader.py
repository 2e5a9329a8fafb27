"""Somebody who does what a page says, in a copy of the repository, with small trainings."""

import os
import re
import shutil
import sys
import tomllib
from dataclasses import fields
from importlib.util import find_spec
from itertools import product
from math import prod
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_class

from tests.builders import ROOT, compose_config
from tests.extras.experiments import WITH_EXTRA
from tests.extras.packages import PACKAGES
from tests.forked import forked
from tests.house.command import environment, run, run_python
from tests.house.pages import Command, write_files

COPIED = ("docs", "results")  # some commands write there
# Nothing else of the repository is reached: a folder `mine` in it is its user's.
LINKED = ("benchmarks", "callbacks", "configs", "examples", "notebooks", "rl2_lightning")
PUBLISHED = "results/checkpoints/"
TABLES = ("mab", "mdp", "worlds", "gymnasium")
# A training of one iteration with few and short trials.
SHORT = {
    "trial.episodes_per_trial": "2",
    "collection.num_trials": "8",
    "collection.uses_curriculum": "false",
    "memory.hidden_size": "8",
    "learner.num_epochs": "1",
    "learner.num_minibatches": "2",
    "learner.num_updates": "2",
    "trainer.accelerator": "cpu",
    "trainer.max_epochs": "1",
    "trainer.check_val_every_n_epoch": "1",
    "evaluation.validation_tasks": "4",
    "evaluation.test_tasks": "6",
}
# What is too long even so, and what is done instead.
SHORTENED = {
    "trainer.max_epochs=200": "trainer.max_epochs=3",
    "hydra.sweeper.n_trials=20": "hydra.sweeper.n_trials=2",
}
# Experiments that start from the weights of another one.
LATER_MAZES = ("experiment=maze_3x3_unlimited", "experiment=maze_5x5", "experiment=maze_9x9")
# These have the trials of their experiment, which what follows them needs.
WHOLE_TRIALS = (
    "experiment=mab_n100_k5 hydra.run.dir=outputs/a_run",
    "experiment=a2c_cart_pole seed=1,2,3,4,5",
    PUBLISHED,
)
# What another command is given as well.
FEW = {
    "rl2_lightning.look": ["num_tasks=6"],
    "results.evaluate": ["evaluation.test_tasks=6", "memory.hidden_size=8"],
    "examples.control": ["tasks=2", "episodes=2"],
    "examples.personalisation": ["port=0"],
    "examples.personalisation.kill_test": ["kills=2", "users=4", "clients=2"],
    "examples.personalisation.load_test": [
        "users=20",
        "decisions=2",
        "rate=100",
        "reward_after=0.02",
    ],
    "benchmarks.families": ["collection.num_trials=8", "trainer.max_epochs=3"],
}
# Trainings that a page takes for granted, and where they are not of the command that uses them.
BEFORE = {
    "outputs/mab_n100_k10/2026-01-01_12-00-00": ["experiment=mab_n100_k10"],
    "outputs/of_5x5": ["experiment=maze_5x5", "start_from=null"],
}
# What a module with a format must write, beside its checkpoint or else where it is run.
WRITES = {
    ("rl2_lightning.look", None): "look/actions.png",
    ("rl2_lightning.export", None): "last.pt2",
    ("rl2_lightning.export", "onnx"): "last.onnx",
    ("rl2_lightning.compare", None): "runs.png",
}
OF_THE_TEST = ("mode=", "ckpt_path=", "evaluation.", "hydra.run.dir=", "-", "trainer.max_epochs")


def value_of(words: list[str], field: str) -> str | None:
    """The last value that a command gives to a field."""
    found = [word.partition("=")[2] for word in words if word.partition("=")[0] == field]
    return found[-1] if found else None


def run_folder(checkpoint: str) -> str:
    """The folder of a run, which a command may name in place of its last checkpoint."""
    return checkpoint.removesuffix("/last.ckpt")


def short_for(words: list[str]) -> list[str]:
    """Fields that make a training small, as far as its parts have them and it sets none."""
    line = " ".join(words)
    known = known_of_learners(words)
    given = {word.partition("=")[0].lstrip("+") for word in words}
    checkpoint, start = value_of(words, "ckpt_path"), value_of(words, "start_from")
    source = checkpoint or start or (PUBLISHED if {*LATER_MAZES} & {*words} else "")
    if source.startswith(PUBLISHED) or "--config-dir" in words:
        given.add("memory.hidden_size")  # it is that of the weights, or it may have another name
    if any(one in line for one in WHOLE_TRIALS):
        given.add("trial.episodes_per_trial")
    return [
        f"{name}={value}"
        for name, value in SHORT.items()
        if name not in given and (not name.startswith("learner.") or name[8:] in known)
    ]


def known_of_learners(words: list[str]) -> set[str]:
    """The fields that the learners of all of a command's runs have."""
    if "--config-dir" in words:
        return {"num_minibatches"}
    chosen = [word for word in words if re.match(r"(env|experiment|learner|agent|memory)=", word)]
    jobs = product(*([f"{w.split('=')[0]}={v}" for v in values_of(w)] for w in chosen))
    learners = [compose_config(Path("unused"), *job).learner["_target_"] for job in jobs]
    fields_of = [{one.name for one in fields(get_class(name).Settings)} for name in learners]
    return set.intersection(*fields_of)


def values_of(word: str) -> list[str]:
    """The values that a field has in the runs of a sweep; one where it has a single value."""
    value = word.partition("=")[2]
    return [value] if re.match(r"[\[({]", value) else value.split(",")


def jobs_of(words: list[str]) -> int:
    """The number of runs of a command."""
    if not {"-m", "--multirun"} & {*words}:
        return 1
    of_sweeps = {"sweep=seeds": 3, "sweep=optuna": 2}
    counts = [count for sweep, count in of_sweeps.items() if sweep in words]
    plain = [word for word in words if re.fullmatch(r"[\w.]+=[\w.,]+", word)]
    return prod([*counts, *(len(values_of(word)) for word in plain)])


def missing_extra(command: Command) -> str | None:
    """The extra that a command needs and that is not installed."""
    experiment = value_of(list(command.words), "experiment")
    extra = WITH_EXTRA.get(experiment or "")
    for word in ("sweep=optuna", "logger=wandb"):
        extra = word.partition("=")[2] if word in command.words else extra
    return extra if extra and find_spec(PACKAGES.get(extra, extra)) is None else None


class Reader:
    """Does commands of a page in a folder that looks like a clone of the repository.

    Args:
        folder: an empty folder.
        page: the page, whose files are written first.
    """

    def __init__(self, folder: Path, page: str) -> None:
        self.folder = folder
        for name in COPIED:
            shutil.copytree(ROOT / name, folder / name)
        for name in LINKED:
            (folder / name).symlink_to(ROOT / name)
        for table in TABLES:  # rows of fewer tasks do not replace those of more
            (folder / "results" / f"{table}.csv").unlink()
        write_files(page, folder)

    def do(self, command: Command) -> None:
        """Do what a command does, with few trials and tasks; it must succeed."""
        program, *words = command.words
        overrides = command.overrides
        assert overrides is not None or not command.variables, "only trainings get variables"
        if overrides is not None and program != "srun":
            self._train(overrides, command)
        elif program == "make":
            run(["make", "-n", *words], ROOT)
        elif program == "pip":
            self._can_be_installed(words)
        elif program == "pytest":
            assert all((ROOT / word).exists() for word in words)
        elif program == "tensorboard":
            shown = self._python("-m", "tensorboard.main", "--inspect", *words)
            assert "train/return" in shown
        elif words[:1] == ["-m"]:
            self._module(words[1], words[2:])
        else:
            pytest.fail(f"nobody knows how to do {command.text}")

    def _python(self, *words: str, **variables: str) -> str:
        paths = os.pathsep.join(filter(None, [variables.pop("PYTHONPATH", ""), str(ROOT)]))
        return run_python(list(words), self.folder, PYTHONPATH=paths, **variables)

    def _train(self, words: list[str], command: Command) -> None:
        """Train or test; the run's results must be there."""
        words = [SHORTENED.get(word, word) for word in words]
        program = [str(ROOT / "train.py")]
        if any(word in words for word in ("--help", "--cfg", "-sc")):
            assert len(self._python(*program, *words).splitlines()) > 10
            return
        target = value_of(words, "hydra.run.dir")
        checkpoint = value_of(words, "ckpt_path")
        if checkpoint is not None and not checkpoint.startswith(PUBLISHED):
            self.prepare(checkpoint, words)
        if target is not None and target != checkpoint:
            shutil.rmtree(self.folder / target, ignore_errors=True)
        short = short_for(words)
        if checkpoint is not None and value_of(words, "mode") != "test":
            short.append("trainer.max_epochs=2")  # there is something left to do
        before = self.results()
        if "sweep=optuna" in words:
            short.append("hydra.sweeper.n_trials=2")
        given = [*short, *words]
        variables = {**dict(command.variables), "OMP_NUM_THREADS": "1"}
        if command.words[0] == "torchrun":
            launch = list(command.words[: command.words.index("train.py")])
            launch[0] = str(Path(sys.executable).with_name("torchrun"))
            run([*launch, *program, *given], self.folder, **variables)
        elif "trainer.devices=2" in words:  # whose second process is started from its command line
            run([sys.executable, *program, *given], self.folder, **variables)
        else:
            self._python(*program, *given, **variables)
        assert len(self.results() - before) == jobs_of(words)

    def results(self) -> set[tuple[str, int]]:
        """The results of runs, each with the time at which it was written."""
        found = (self.folder / "outputs").rglob("summary.json")
        return {(str(path), path.stat().st_mtime_ns) for path in found}

    def prepare(self, checkpoint: str, words: list[str]) -> None:
        """Make the stopped run that a command starts from, unless there is one."""
        folder = run_folder(checkpoint)
        if not (self.folder / folder / "last.ckpt").exists():
            same = [word for word in words if not word.startswith(OF_THE_TEST)]
            same = BEFORE.get(folder, same)
            given = [*short_for(same), *same, f"hydra.run.dir={folder}"]
            self._python(str(ROOT / "train.py"), *given, OMP_NUM_THREADS="1")
        (self.folder / folder / "summary.json").unlink(missing_ok=True)

    def _can_be_installed(self, words: list[str]) -> None:
        """The extras are there, and so is the file of versions."""
        text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
        known = tomllib.loads(text)["project"]["optional-dependencies"]
        extras = re.findall(r"\[(.*?)\]", " ".join(words))
        assert {name for names in extras for name in names.split(",")} <= {*known}
        assert "-c" not in words or (ROOT / words[words.index("-c") + 1]).is_file()

    def _module(self, name: str, words: list[str]) -> None:
        """Run a module of this repository, with few tasks."""
        words = [one for word in words for one in self._matching(word)]
        checkpoint = value_of(words, "ckpt_path")
        few: list[Any] = list(FEW.get(name, []))
        if checkpoint is not None and checkpoint.startswith(PUBLISHED):
            few = [word for word in few if not word.startswith("memory.")]
        elif checkpoint is not None:
            self.prepare(checkpoint, [])
        if name == "examples.personalisation":
            self._serve([*words, *few])
            return
        self._python("-m", name, *words, *few, OMP_NUM_THREADS="1")
        file = WRITES.get((name, value_of(words, "format")))
        if file is not None:
            assert (self.folder / run_folder(checkpoint or "") / file).is_file()

    def _matching(self, word: str) -> list[str]:
        """What the shell makes of a pattern."""
        if "*" not in word:
            return [word]
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.glob(word))

    def _serve(self, words: list[str]) -> None:
        """Start a service, and end it once it answers."""
        env = environment({"PYTHONPATH": str(ROOT)})
        with forked(["-m", "examples.personalisation", *words], self.folder, env) as program:
            program.wait_for("http://127.0.0.1:")
            program.send_signal(15)
            assert program.wait() == 0, program.read()
