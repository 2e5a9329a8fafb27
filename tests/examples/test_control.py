"""The control loop plays cart-poles as the training did."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from examples.control.__main__ import LONGEST_EPISODE, PHYSICS, control, drawn_cart_pole, main
from rl2_lightning import Agent
from rl2_lightning.families.gymnasium.formulas import evaluate
from tests.examples.agents import CHECKPOINT, ROOT
from tests.house.command import run

EXPERIMENT = ROOT / "configs" / "experiment" / "gymnasium_cart_pole.yaml"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "a_cart_pole"
    fields = ["debug=fast", "experiment=gymnasium_cart_pole", "env.horizon=5"]
    run([sys.executable, ROOT / "train.py", *fields, f"hydra.run.dir={folder}"], ROOT)
    return folder / "last.ckpt"


def test_physics_are_drawn_as_in_the_training() -> None:
    trained = OmegaConf.to_container(OmegaConf.load(EXPERIMENT).env)
    assert {name: tuple(ends) for name, ends in trained["tasks"].items()} == PHYSICS
    assert trained["horizon"] == LONGEST_EPISODE
    env = drawn_cart_pole(np.random.default_rng(1))
    for name, formula in trained["derived"].items():
        value = evaluate(formula, lambda one: getattr(env.unwrapped, one))
        assert getattr(env.unwrapped, name) == pytest.approx(value)


def test_an_agent_controls_a_cart_pole(checkpoint: Path) -> None:
    agent, env = Agent.load(checkpoint), drawn_cart_pole(np.random.default_rng(1))
    returns = [control(agent, env, 2, forgets=one, seed=3) for one in (False, True)]
    assert all(0 < one <= LONGEST_EPISODE for one in returns[0])
    assert returns[0][0] == returns[1][0]
    assert control(agent, env, 2, forgets=False, seed=3) == returns[0]


def test_the_command_prints_returns(
    checkpoint: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [f"ckpt_path={checkpoint}", "tasks=3", "episodes=2"]
    monkeypatch.setattr(sys, "argv", ["control", *arguments])
    main()
    told = capsys.readouterr().out
    assert re.search(r"1 +│ \d+\.\d ± \d+\.\d", told), told


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([f"ckpt_path={CHECKPOINT}", "tasks=2"], "the observation has shape"),
        ([f"ckpt_path={CHECKPOINT}", "tasks=1"], "tasks=1: give a whole number of at least 2"),
        (["tasks=2"], "ckpt_path is missing"),
    ],
)
def test_mistakes(arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["control", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value).startswith(f"error: {line}")
