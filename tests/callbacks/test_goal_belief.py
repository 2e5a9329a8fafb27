"""Pictures of the belief over the goal, after a test of the whole program."""

import csv
import math
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.distributions import Categorical

from rl2_lightning.build import build_data, build_learner
from rl2_lightning.callbacks.goal_belief import GoalBelief
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.evaluation.held_out import HeldOut
from rl2_lightning.learners.varibad import NUM_SAMPLES, SAMPLES_SEED, VariBAD
from tests.builders import ROOT, compose_config
from tests.command_line.program import SMALL, call_program

FILES = ("goal_belief.png", "goal_belief.gif", "goal_entropy.png", "goal_entropy.csv")
SHORT = ("env.horizon=6", "learner.num_updates=1")


def trained_belief(folder: Path, *overrides: str) -> tuple[VariBAD, HeldOut, list[float]]:
    """The trained learner, its test tasks, and the mean entropies that the callback writes."""
    cfg = compose_config(folder, "experiment=varibad_grid_navi", *overrides)
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    weights = ROOT / "results" / "checkpoints" / "varibad_grid_navi_seed1.ckpt"
    Checkpoint.read(weights).load_into(learner)
    trainer = SimpleNamespace(datamodule=data, is_global_zero=True, loggers=[])
    GoalBelief(str(folder)).on_test_end(trainer, learner.eval())
    with (folder / "goal_entropy.csv").open(newline="") as file:
        found = [float(row["entropy"]) for row in csv.DictReader(file)]
    return learner, data.held_out["test"], found


@torch.no_grad()
def test_an_entropy_is_that_of_the_belief_before_its_step(tmp_path: Path) -> None:
    learner, held_out, found = trained_belief(
        tmp_path, "evaluation.test_tasks=1", "trial.episodes_per_trial=2"
    )
    trial = held_out.play(learner.agent, [0], greedy=True, shows_position=True)
    assert len(found) == trial.batch_size[1] == 2 * 15
    noise = torch.randn(NUM_SAMPLES, 5, generator=torch.Generator().manual_seed(SAMPLES_SEED))
    for step, entropy in enumerate(found):
        # All that the agent has seen when it chooses the action of this step.
        belief = learner.agent.beliefs(inputs_of(trial[:, : step + 1]))
        mean, log_variance = belief.mean[0, -1], belief.log_variance[0, -1]
        latents = mean + (0.5 * log_variance).exp() * noise
        is_goal = learner.decoder.reward_heads(latents).sigmoid().mean(dim=0)
        expected = Categorical(probs=is_goal).entropy().item()
        assert entropy == pytest.approx(expected, rel=1e-4), step
    # Before anything is known, all 21 cells are as likely.
    assert found[0] == pytest.approx(math.log(21), abs=0.05)


@pytest.mark.slow
def test_the_entropy_falls_in_each_step_of_the_first_episode(tmp_path: Path) -> None:
    *_, found = trained_belief(tmp_path, "evaluation.test_tasks=1000")
    first = found[:16]  # to the belief that has seen where the last step has led
    assert all(after < before for before, after in pairwise(first))
    # The figures of docs/varibad.md.
    assert (first[0], first[-1]) == pytest.approx((3.04, 1.01), abs=0.06)
    assert found[45:] == pytest.approx([0.16] * 15, abs=0.02)


@pytest.mark.parametrize("form", ["moments", "samples"])
def test_pictures_and_tensorboard(tmp_path: Path, form: str) -> None:
    given = (f"agent.belief.form={form}", f"hydra.run.dir={tmp_path}")
    call_program(tmp_path, *SMALL, *SHORT, "experiment=varibad_grid_navi", *given)
    with Image.open(tmp_path / "goal_belief.gif") as image:
        assert image.n_frames == 12, "two episodes of six steps"
    with (tmp_path / "goal_entropy.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["step"]) for row in rows] == list(range(12))
    assert all(0 <= float(row["entropy"]) <= math.log(25) for row in rows)
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    scalars = events.Scalars("test/goal_entropy_of_step")
    assert [one.step for one in scalars] == list(range(12))
    assert scalars[3].value == pytest.approx(float(rows[3]["entropy"]), rel=1e-5)
    images = {"test/goal_belief", "test/goal_belief_film", "test/goal_entropy"}
    assert images <= set(events.Tags()["images"])


@pytest.mark.parametrize(
    "overrides",
    [
        "experiment=varibad_grid_navi learner.decoder.reward_likelihood=normal",
        "experiment=varibad_point_robot_sparse",
        "experiment=rl2_belief_grid_navi",
    ],
)
def test_nothing_is_drawn_where_no_goal_is_decoded(tmp_path: Path, overrides: str) -> None:
    updates = () if "rl2" in overrides else ("learner.num_updates=1",)
    given = ("env.horizon=3", f"hydra.run.dir={tmp_path}")
    call_program(tmp_path, *SMALL, *updates, *overrides.split(), *given)
    assert not [name for name in FILES if (tmp_path / name).exists()]
