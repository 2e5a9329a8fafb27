"""The control loop plays cart-poles as the training did."""

import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from tensordict import TensorDict

from examples.control.__main__ import (
    LARGEST_START,
    LONGEST_EPISODE,
    PHYSICS,
    SHOWN,
    UnknownCartPole,
    control,
    main,
)
from rl2_lightning import Agent
from rl2_lightning.families.cart_pole import move
from tests.examples.agents import CHECKPOINT, CHECKPOINTS, ROOT
from tests.house.command import run

FAMILY = ROOT / "configs" / "env" / "cart_pole.yaml"
KEPT = CHECKPOINTS / "cart_pole_seed1.ckpt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "a_cart_pole"
    fields = ["debug=fast", "experiment=cart_pole", "env.horizon=5"]
    run([sys.executable, ROOT / "train.py", *fields, f"hydra.run.dir={folder}"], ROOT)
    return folder / "last.ckpt"


def test_physics_are_drawn_as_in_the_training() -> None:
    trained = OmegaConf.load(FAMILY).env
    names = {"masscart": "cart_mass", "length": "pole_length", "gravity": "gravity"}
    assert {name: tuple(trained[of]) for name, of in names.items()} == PHYSICS
    assert trained.horizon == LONGEST_EPISODE
    assert trained.largest_start == LARGEST_START["high"] == -LARGEST_START["low"]
    assert trained.flips
    assert not trained.shows_velocities


def test_a_cart_pole_is_the_familys() -> None:
    """The same steps as in the family, for the same physics and actions."""
    for seed in range(4):
        env = UnknownCartPole(np.random.default_rng(seed))
        observation, _ = env.reset(seed=seed)
        assert env.observation_space.contains(observation)
        physics = env.unwrapped
        tasks = TensorDict(
            {
                "cart_mass": torch.tensor([[physics.masscart]]),
                "pole_length": torch.tensor([[physics.length]]),
                "gravity": torch.tensor([[physics.gravity]]),
                "force_sign": torch.tensor([[-1.0 if env.is_swapped else 1.0]]),
            },
            [1],
        ).float()
        state = torch.tensor([physics.state]).float()
        for step in range(8):
            action = step % 3 % 2
            observation, *_ = env.step(action)
            state = move(state, torch.tensor([action]), tasks)
            np.testing.assert_allclose(state[0, SHOWN], observation, rtol=1e-4, atol=1e-6)


def test_an_agent_controls_a_cart_pole(checkpoint: Path) -> None:
    agent, env = Agent.load(checkpoint), UnknownCartPole(np.random.default_rng(1))
    returns = [control(agent, env, 2, forgets=one, seed=3) for one in (False, True)]
    assert all(0 < one <= LONGEST_EPISODE for one in returns[0])
    assert returns[0][0] == returns[1][0]
    assert control(agent, env, 2, forgets=False, seed=3) == returns[0]


def test_the_kept_agent_adapts() -> None:
    agent, numbers = Agent.load(KEPT), np.random.default_rng(5)
    returns = []
    for task in range(12):
        env = UnknownCartPole(numbers)
        returns.append([control(agent, env, 2, forgets=one, seed=task) for one in (False, True)])
    (_, second), (_, forgotten) = np.mean(returns, 0)
    assert second > 190
    assert second >= forgotten


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
        (
            [f"ckpt_path={CHECKPOINT}", "tasks=2"],
            "the observation has shape [1, 2], and this agent",
        ),
        ([f"ckpt_path={CHECKPOINT}", "tasks=1"], "tasks=1: give a whole number of at least 2"),
        (["tasks=2"], "ckpt_path is missing"),
    ],
)
def test_mistakes(arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["control", *arguments])
    with pytest.raises(SystemExit) as ended:
        main()
    assert str(ended.value).startswith(f"error: {line}")
