"""A checkpoint's row, its curves and its kept weights."""

import shutil
from pathlib import Path

import pytest
import torch

from results.cells import read_rows
from results.evaluate import run
from results.render import figure_text, render
from rl2_lightning.build import build_data, build_learner, build_trainer
from rl2_lightning.errors import UserError
from tests.builders import compose_config

NETWORK = "network.memory.hidden_size=4"
TRAINED = (
    "experiment=mab_n10_k5",
    NETWORK,
    "seed=3",
    "collection.num_trials=16",
    "collection.total_env_steps=320",
    "algorithm.num_epochs=1",
    "algorithm.num_minibatches=1",
    "evaluation.validation_tasks=4",
    "callbacks.checkpoint.every_n_epochs=1",
)
FEW = ("evaluation.test_tasks=30", "trainer.accelerator=cpu", NETWORK)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    cfg = compose_config(folder, *TRAINED)
    cfg.callbacks = {name: cfg.callbacks[name] for name in ("checkpoint", "summary")}
    data = build_data(cfg)
    trainer = build_trainer(cfg, data)
    trainer.fit(build_learner(cfg, data), data)
    return folder / "last.ckpt"


def evaluated(folder: Path, checkpoint: Path, experiment: str = "mab_n10_k5") -> dict[str, str]:
    return run([f"experiment={experiment}", f"ckpt_path={checkpoint}", *FEW], folder)


def test_a_row_says_what_was_measured_and_how(tmp_path: Path, checkpoint: Path) -> None:
    row = evaluated(tmp_path, checkpoint)
    assert read_rows(tmp_path, "mab") == [row]
    assert (row["seed"], row["num_tasks"], row["env_steps"]) == ("3", "30", "320")
    assert 2 < float(row["agent_greedy"]) < 8
    assert float(row["agent_greedy_half_width"]) > 0
    assert 5 < float(row["bayes_optimal"]) < 8
    assert row["published_rl2"] == "6.7"
    assert row["reached"] == ("yes" if float(row["agent_greedy"]) >= 6.6 else "no")
    assert row["command"] == (
        "python -m results.evaluate experiment=mab_n10_k5 evaluation.test_tasks=30 "
        f"trainer.accelerator=cpu {NETWORK} ckpt_path=results/checkpoints/mab_n10_k5_seed3.ckpt"
    )


def test_the_kept_weights_repeat_the_row(tmp_path: Path, checkpoint: Path) -> None:
    first = evaluated(tmp_path / "first", checkpoint)
    kept = tmp_path / "first" / "checkpoints" / "mab_n10_k5_seed3.ckpt"
    assert evaluated(tmp_path / "again", kept) == first
    curves = "curves/mab_n10_k5_seed3.csv"
    assert (tmp_path / "first" / curves).read_text() == (tmp_path / "again" / curves).read_text()


def test_the_kept_weights_are_small_and_name_no_folder(tmp_path: Path, checkpoint: Path) -> None:
    evaluated(tmp_path, checkpoint)
    kept = tmp_path / "checkpoints" / "mab_n10_k5_seed3.ckpt"
    whole = torch.load(checkpoint, weights_only=True)
    small = torch.load(kept, weights_only=True)
    assert str(checkpoint.parent) in str(whole["hyper_parameters"])
    assert str(checkpoint.parent) not in str(small)
    assert "optimizer_states" not in small
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, small["state_dict"][name])


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("mab_n10_k10", r"trained with env.num_arms=5, this run has 10"),
        ("mab_n100_k5", r"trained with network.memory.hidden_size|trained with network.separate"),
        ("mdp_n10", r"trained with env._target_=.*BernoulliBandit, this run has .*TabularMDP"),
        ("mab_n9_k5", r"experiment=mab_n9_k5 is in no table"),
    ],
)
def test_a_checkpoint_of_another_cell_is_refused(
    tmp_path: Path, checkpoint: Path, experiment: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        evaluated(tmp_path, checkpoint, experiment)
    assert not list(tmp_path.iterdir())


def test_a_checkpoint_of_another_length_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    words = r"trial.episodes_per_trial=10, experiment=mab_n10_k5 has 20"
    with pytest.raises(UserError, match=words):
        run(
            [
                "experiment=mab_n10_k5",
                f"ckpt_path={checkpoint}",
                *FEW,
                "trial.episodes_per_trial=20",
            ],
            tmp_path,
        )


@pytest.mark.parametrize("given", ["experiment=mab_n10_k5", "ckpt_path=last.ckpt"])
def test_both_must_be_given(tmp_path: Path, given: str) -> None:
    with pytest.raises(UserError, match=r"is missing: write (experiment|ckpt_path)="):
        run([given], tmp_path)


@pytest.mark.parametrize(
    ("half_width", "text"),
    [("0.0437", "6.664 ± 0.044"), ("0.21", "6.66 ± 0.21"), ("1.3", "6.7 ± 1.3")],
)
def test_figures_are_shown_to_the_digits_of_their_interval(half_width: str, text: str) -> None:
    assert figure_text({"ucb1": "6.6637", "ucb1_half_width": half_width}, "ucb1") == text


def test_the_page_shows_rows_and_open_cells(tmp_path: Path, checkpoint: Path) -> None:
    row = evaluated(tmp_path, checkpoint)
    render(tmp_path)
    page, picture = (tmp_path / "README.md").read_text(), (tmp_path / "mab.png").read_bytes()
    lines = page.splitlines()
    (own,) = [line for line in lines if line.startswith("| n=10, k=5 | 3 |")]
    assert figure_text(row, "agent_greedy") in own
    assert f"| {row['reached']} |" in own
    (measured,) = [line for line in lines if "(5.8)" in line or "(5.7)" in line]
    assert measured.startswith("| n=10, k=5 | "), "Thompson sampling, as published"
    assert sum("| open |" in line for line in lines) == 13
    assert picture.startswith(b"\x89PNG")
    assert not (tmp_path / "mdp.png").exists()
    shutil.rmtree(tmp_path / "checkpoints")
    render(tmp_path)
    assert (tmp_path / "README.md").read_text() == page
    assert (tmp_path / "mab.png").read_bytes() == picture, "the same input gives the same bytes"
