"""The environment on the page about Gymnasium is trained as the page says."""

import json
import re
import sys
import tomllib
from pathlib import Path

import pytest
import torch
import yaml

from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.look import look
from tests.extras.experiments import GYMNASIUM, WITH_EXTRA
from tests.extras.packages import PACKAGES
from tests.house.command import run_python
from tests.house.pages import ROOT, commands_of, write_files

PAGE = (ROOT / "docs" / "gymnasium.md").read_text(encoding="utf-8")


def test_the_table_of_extras_is_whole() -> None:
    lines = [line for line in PAGE.splitlines() if "`pip install rl2-lightning[" in line]
    found = {re.search(r"\[(\w+)\]`", line)[1]: line for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert set(found) == {"gymnasium", "ray", *PACKAGES}
    for extra, line in found.items():
        experiments = re.findall(r"`(\w+)`", line.rpartition("|")[0].rpartition("|")[2])
        expected = [name for name in GYMNASIUM if WITH_EXTRA.get(name, "gymnasium") == extra]
        assert sorted(experiments) == sorted(expected)
        *_, packages, _, _ = line.split("|")
        for package in packages.split(","):
            assert package.strip() in " ".join(extras[extra] + extras["mujoco"])


def test_wrappers_are_those_of_the_page() -> None:
    """The one with a limit cuts each episode."""
    (text,) = re.findall(r"^```yaml\n(env:\n  wrappers:.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    settings = yaml.safe_load(text)["env"]
    limit = settings["wrappers"][1]["kwargs"]["max_episode_steps"]
    family = GymnasiumTasks(2, id="Pendulum-v1", horizon=2 * limit, **settings)
    trials = TrialEnv(family, episodes_per_trial=2)
    trials.begin()
    ended = [step for step in range(2 * limit) if at_an_end(trials)]
    assert ended == [limit - 1, 2 * limit - 1]


def at_an_end(trials: TrialEnv) -> bool:
    following = trials.advance(torch.zeros(2, 1)).following
    return bool(following.inputs.previous_done.all())


def test_an_environment_of_your_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program, config = write_files("docs/gymnasium.md", tmp_path)
    assert len(program.read_text(encoding="utf-8").splitlines()) < 20
    assert len(config.read_text(encoding="utf-8").splitlines()) < 10
    (command,) = (one for one in commands_of("docs/gymnasium.md") if one.variables)
    assert command.variables == (("PYTHONPATH", "mine"),)
    assert command.overrides is not None
    output = tmp_path / "run"
    quick = ("debug=fast", "collection.backend=process", "collection.num_workers=2")
    given = [ROOT / "train.py", *command.overrides, *quick, f"hydra.run.dir={output}"]
    run_python(given, tmp_path, PYTHONPATH=str(tmp_path / "mine"), OMP_NUM_THREADS="1")
    summary = json.loads((output / "summary.json").read_text())
    assert summary["iterations"] >= 1
    # One task in four is solved by whatever is tried first.
    assert 0 < summary["references"]["random"]["trial_return"] <= 3
    # And its agent can be looked at, with the same folder of configuration.
    monkeypatch.syspath_prepend(str(tmp_path / "mine"))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "mine"))
    monkeypatch.setattr(sys, "argv", ["look", "--config-dir", str(tmp_path / "mine" / "configs")])
    written = look(str(output / "last.ckpt"), tmp_path / "look", num_tasks=6)
    assert {"adaptation_curve", "actions", "memory", "reactions"} <= {one.stem for one in written}
