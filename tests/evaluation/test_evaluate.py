"""Evaluation without a trainer gives the trainer's results."""

from pathlib import Path

import pytest
import torch

from rl2_lightning import Agent
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.callbacks.evaluation import HeldOutEvaluation
from rl2_lightning.callbacks.outcome import evaluation_of
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.evaluate import evaluate
from rl2_lightning.evaluation.findings import main_figures
from rl2_lightning.evaluation.held_out import MODES
from tests.builders import compose_config

TINY = (
    "collection.num_trials=8",
    "learner.num_minibatches=2",
    "memory.hidden_size=8",
    "trial.episodes_per_trial=6",
    "evaluation.validation_tasks=10",
    "evaluation.test_tasks=25",
    "evaluation.batch_size=10",
    "trainer.accelerator=cpu",
    "trainer.max_epochs=2",
    "trainer.check_val_every_n_epoch=2",
)


@pytest.mark.parametrize("env", ["bernoulli_bandit", "two_step"])
def test_it_finds_what_a_trainer_finds(tmp_path: Path, env: str) -> None:
    cfg = compose_config(tmp_path, *TINY, f"env={env}")
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    trainer = build_trainer(cfg, data, learner)
    gathered = HeldOutEvaluation()
    trainer.callbacks = [gathered]
    trainer.fit(learner, data)
    validated = gathered.curves
    trainer.save_checkpoint(tmp_path / "last.ckpt")
    trainer.test(learner, data, verbose=False)

    # Another process would do just the same.
    agent = Agent.load(tmp_path / "last.ckpt")
    held_out = build_data(cfg).held_out
    found = evaluate(agent, held_out["test"])
    again = evaluate(agent, held_out["validation"])
    assert list(found.curves) == list(gathered.curves) == list(MODES)
    for mode in MODES:
        for curve, expected in (
            (found.curves[mode], gathered.curves[mode]),
            (again.curves[mode], validated[mode]),
        ):
            assert torch.equal(curve.mean, expected.mean)
            assert torch.equal(curve.half_width, expected.half_width)
            assert curve.to_dict() == expected.to_dict()
    assert found.curves["greedy"].num_trials == 25
    told = trainer.callback_metrics
    assert told["test/return_greedy"].item() == pytest.approx(found.curves["greedy"].trial_return)

    analysis = held_out["test"].analysis
    assert (analysis is not None) is (env == "two_step")
    assert list(found.findings) == list(gathered.findings) == (list(MODES) if analysis else [])
    if analysis is not None:
        ours, theirs = (main_figures(analysis, one.findings) for one in (found, gathered))
        assert ours.keys() == theirs.keys()
        for name, estimate in ours.items():
            assert estimate == pytest.approx(theirs[name], nan_ok=True)


def test_callbacks_that_nothing_is_gathered_for(tmp_path: Path) -> None:
    cfg = compose_config(tmp_path, *TINY, "callbacks.evaluation=null", "callbacks.progress=null")
    data = build_data(cfg)
    learner = build_learner(cfg, data)
    with pytest.raises(UserError, match=r"^callbacks.evaluation=null while other") as told:
        build_trainer(cfg, data, learner)
    readers = (
        "adaptation_curve",
        "adaptation_over_training",
        "trial_analysis",
        "closing_table",
        "summary",
    )
    switches = [f"callbacks.{name}=null" for name in readers]
    assert str(told.value).endswith(f"switch those off, too: {' '.join(switches)}")
    for name in readers:
        cfg.callbacks[name] = None
    with pytest.raises(UserError, match=r"^callbacks.evaluation=null while other"):
        evaluation_of(build_trainer(cfg, data, learner))  # as a user's own callback may ask


def test_lightning_adds_no_callbacks_of_its_own(tmp_path: Path) -> None:
    off = ("callbacks.checkpoint=null", "callbacks.progress=null")
    cfg = compose_config(tmp_path, *TINY, *off)
    data = build_data(cfg)
    trainer = build_trainer(cfg, data, build_learner(cfg, data))
    assert trainer.checkpoint_callback is None
    assert trainer.progress_bar_callback is None
