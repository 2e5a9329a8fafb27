"""A family, a memory and a learner outside of the repository: one file and one YAML each."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.errors import UserError
from rl2_lightning.parts import find_class, leave_out_foreign, read_settings
from tests.builders import (
    LEARNERS,
    compose_config,
    corridor_trials,
    gradients,
    make_agent,
    make_learner,
    minibatch_of,
)
from tests.house.command import run_python
from tests.house.own_parts.reinforce import Reinforce

ROOT = Path(__file__).parents[2]
PARTS = Path(__file__).parent / "own_parts"
SMALL = (
    "debug=fast",
    "learner.num_minibatches=2",
    "evaluation.test_tasks=8",
    "callbacks.checkpoint.every_n_epochs=1",
    "trainer.accelerator=cpu",
)
# Another process lets the agent play the run's test tasks without a trainer.
PLAYS = """
import json
from pathlib import Path

import {module}
from rl2_lightning import Agent
from rl2_lightning.build import build_data
from rl2_lightning.evaluation.evaluate import evaluate
from tests.builders import compose_config

data = build_data(compose_config(Path("unused"), *{overrides}))
found = evaluate(Agent.load("{checkpoint}"), data.held_out["test"])
print(json.dumps({{mode: curve.to_dict() for mode, curve in found.curves.items()}}))
"""
# Each trial has two windows, the second of which is mostly idle, and is a minibatch of its own.
IDLE_WINDOWS = ("env=treasure", "collection.window=31", "learner.num_minibatches=16")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with user-defined parts."""
    folder = tmp_path / "own"
    shutil.copytree(PARTS, folder, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def train(folder: Path, output: Path, *overrides: str, by_flag: bool = True) -> Path:
    """Run `python train.py` in an empty folder with the parts in the user's folder."""
    configs = folder / "configs"
    place = ["--config-dir", configs] if by_flag else [f"hydra.searchpath=[file://{configs}]"]
    given = [ROOT / "train.py", *place, *SMALL, *overrides, f"hydra.run.dir={output}"]
    output.mkdir()
    run_python(given, output, PYTHONPATH=str(folder), OMP_NUM_THREADS="1")
    return output


def shown(output: Path) -> dict:
    """The agent's results in the test."""
    return json.loads((output / "summary.json").read_text())["agent"]


def weights(output: Path) -> dict[str, torch.Tensor]:
    return torch.load(output / "last.ckpt", weights_only=True)["state_dict"]


def train_test_and_resume(tmp_path: Path, folder: Path, *choice: str) -> tuple[Path, Path]:
    """Train, test and resume; returns the folders of the first part and of the whole run."""
    first = train(folder, tmp_path / "first", *choice, by_flag=False)
    checkpoint = f"ckpt_path={first / 'last.ckpt'}"
    resumed = train(folder, tmp_path / "resumed", *choice, checkpoint, "trainer.max_epochs=2")
    whole = train(folder, tmp_path / "whole", *choice, "trainer.max_epochs=2")
    tested = train(folder, tmp_path / "tested", *choice, checkpoint, "mode=test")
    assert shown(tested) == shown(first)
    assert not (tested / "last.ckpt").exists()
    found = weights(resumed)
    assert int(found["clock.iterations_done"]) == 2
    for name, tensor in weights(whole).items():
        assert torch.equal(tensor, found[name]), name
    assert shown(resumed) == shown(whole)
    return first, whole


def assert_all_weights_moved(before: Path, after: Path) -> None:
    old, new = weights(before), weights(after)
    learnt = [name for name in old if name.startswith(("agent.", "critic."))]
    assert any(name.startswith("critic.") for name in learnt)
    for name in learnt:
        assert new[name].isfinite().all()
        assert not torch.equal(old[name], new[name]), name


def test_a_family_needs_one_file(tmp_path: Path, folder: Path) -> None:
    first, _ = train_test_and_resume(tmp_path, folder, "env=treasure")
    assert (first / "trial_paths.png").exists()
    references = json.loads((first / "summary.json").read_text())["references"]
    assert references["knows_the_side"]["trial_return"] == 2.0


def test_a_memory_needs_one_file(tmp_path: Path, folder: Path) -> None:
    # Enough tasks and large enough updates that other weights give other results.
    choice = ("memory=leaky", "learner.learning_rate=0.05", "evaluation.test_tasks=64")
    first, whole = train_test_and_resume(tmp_path, folder, *choice)
    assert_all_weights_moved(first, whole)
    overrides = (*SMALL, "evaluation.test_tasks=64")
    program = PLAYS.format(module="leaky", overrides=overrides, checkpoint=first / "last.ckpt")
    printed = run_python(
        ["-c", program],
        tmp_path,
        PYTHONPATH=f"{folder}:{ROOT}",
        OMP_NUM_THREADS="1",
    )
    found = json.loads(printed.splitlines()[-1])
    assert found.keys() == shown(first).keys() == {"greedy", "sampled"}
    # The run's summary also has the share of the reference.
    assert all(curve.items() <= shown(first)[mode].items() for mode, curve in found.items())
    assert shown(first) != shown(whole)


def test_a_learner_needs_one_file(tmp_path: Path, folder: Path) -> None:
    first, whole = train_test_and_resume(tmp_path, folder, "learner=reinforce", *IDLE_WINDOWS)
    assert_all_weights_moved(first, whole)


def test_minibatches_of_idle_steps_are_not_its_business(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(LEARNERS, "reinforce", Reinforce)
    env = corridor_trials(6)
    learner = make_learner(make_agent(env), env, "reinforce")
    minibatch = minibatch_of(learner, env, window=5)
    assert all(gradient.any() for gradient in gradients(learner, minibatch).values())
    playing = minibatch[keys.WINDOW, keys.MASK].flatten(1).any(dim=1)
    assert 0 < playing.sum() < len(playing)
    idle = minibatch[~playing]
    assert learner.window_loss(idle) == 0
    assert all((gradient == 0).all() for gradient in gradients(learner, idle).values())


def test_an_experiment_goes_with_another_memory_and_learner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(PARTS)
    # The experiment sets a separate critic; a learner of another kind has none.
    choice = (
        "experiment=mdp_n10",
        "memory._target_=leaky.Leaky",
        "learner._target_=tests.house.own_parts.reinforce.Reinforce",
    )
    cfg = compose_config(tmp_path, *choice, "learner.clip_epsilon=0.3")
    rate, separate = cfg.learner.learning_rate, cfg.learner.critic.separate
    with pytest.warns(UserWarning, match="left out") as told:
        leave_out_foreign(cfg, ["learner.clip_epsilon=0.3", *choice])
    assert [str(one.message).partition(":")[0] for one in told] == [
        "Leaky has no memory.hidden_size, memory.num_layers, memory.num_heads, memory.matrix_size, "
        "memory.feed_forward_factor, memory.max_timescale",
        "Reinforce has no learner.value_clip, learner.num_epochs, learner.target_kl",
    ]
    assert cfg.learner.learning_rate == rate
    assert cfg.learner.critic.separate is separate
    with pytest.raises(UserError, match=r"unknown config key 'learner.clip_epsilon'"):
        read_settings(cfg, "learner", Reinforce.Settings)


def test_a_misspelt_field_of_an_experiment_is_told(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path, "+memory.hiden_size=3")
    leave_out_foreign(cfg, ["memory=gru"])
    with pytest.raises(UserError, match=r"unknown config key 'memory.hiden_size'"):
        read_settings(cfg, "memory", find_class(cfg, "memory", Memory).Settings)


@pytest.mark.parametrize(("file", "most"), [("treasure", 100), ("leaky", 60), ("reinforce", 60)])
def test_a_part_is_a_short_file(file: str, most: int) -> None:
    assert len((PARTS / f"{file}.py").read_text().splitlines()) < most
