"""A checkpoint's row, its curves and its stored weights."""

import json
from pathlib import Path

import pytest
import torch

from results.cells import read_rows
from results.curves import read_curves, write_curves
from results.evaluate import run
from rl2_lightning import Agent
from rl2_lightning.errors import UserError
from rl2_lightning.evaluation.held_out import HeldOut
from tests.command_line.program import call_program
from tests.results.builders import FEW, MEMORY, train_tiny

KEPT = "checkpoints/mab_n10_k5_seed3.ckpt"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("trained")
    return train_tiny(folder, callbacks=("evaluation", "checkpoint", "summary"))


def evaluated(folder: Path, checkpoint: Path, experiment: str = "mab_n10_k5") -> dict[str, str]:
    return run([f"experiment={experiment}", f"ckpt_path={checkpoint}", *FEW], folder)


def test_a_row_says_what_was_measured_and_how(tmp_path: Path, checkpoint: Path) -> None:
    row = evaluated(tmp_path, checkpoint)
    assert read_rows(tmp_path, "mab") == [row]
    assert (row["name"], row["experiment"]) == ("mab_n10_k5_seed3", "mab_n10_k5")
    assert row["agent"] == "gru"
    assert (row["seed"], row["num_tasks"], row["tasks_seed"]) == ("3", "30", "2017")
    # The whole iterations that fit the budget, all of which were done.
    assert (row["env_steps"], row["total_env_steps"]) == ("480", "480")
    assert row["training_seconds"].isdigit()
    assert 2 < float(row["agent_greedy"]) < 8
    assert float(row["agent_greedy_half_width"]) > 0
    assert 5 < float(row["bayes_optimal"]) < 8
    assert row["published_rl2"] == "6.7"
    assert row["reached"] == ("yes" if float(row["agent_greedy"]) >= 6.6 else "no")
    assert row["command"] == (
        "python -m results.evaluate experiment=mab_n10_k5 evaluation.test_tasks=30 "
        f"{MEMORY} ckpt_path=results/{KEPT}"
    )


def test_a_run_that_was_stopped_tells_what_it_has_spent(tmp_path: Path) -> None:
    # Also without the callback that stores the time.
    stopped = train_tiny(tmp_path, "trainer.max_epochs=1")
    row = evaluated(tmp_path / "tables", stopped)
    assert (row["env_steps"], row["total_env_steps"]) == ("160", "480")
    assert row["training_seconds"] == ""


def test_a_family_with_an_analysis_of_its_own_adds_it(tmp_path: Path) -> None:
    tables = tmp_path / "tables"
    trained = train_tiny(
        tmp_path, "collection.total_env_steps=4_000", experiment="two_step_without_reward"
    )
    row = evaluated(tables, trained, "two_step_without_reward")
    interaction = float(row["measure_stay_adjusted_interaction_sampled"])
    half_width = float(row["measure_stay_adjusted_interaction_sampled_half_width"])
    assert -1 < interaction < 1
    assert 0 < half_width < 1
    assert row["bar"] == "reward × transition: no interaction"
    assert row["reached"] == ("yes" if abs(interaction) <= half_width else "no")
    assert read_rows(tables, "worlds") == [row]
    written = {
        path.name for path in (tables / "analyses" / "two_step_without_reward_seed3").iterdir()
    }
    assert written == {"stay_probabilities.csv", "stay_probabilities.png"}


def test_an_agent_may_be_shown_larger_tasks_than_it_was_trained_on(tmp_path: Path) -> None:
    small = ("env.size=3", "env.horizon=5", "env.num_training_mazes=4", "trainer.max_epochs=1")
    encoder = "agent.encoder_hidden_sizes=[4]"
    trained = train_tiny(tmp_path, *small, encoder, experiment="maze_5x5")
    given = ["experiment=maze_5x5", f"ckpt_path={trained}", *FEW, encoder]
    with pytest.raises(UserError, match=r"was trained with env.\w+=\w+, experiment=maze_5x5 has"):
        run(given, tmp_path / "tables")
    row = run([*given, "evaluation.other_sizes=true"], tmp_path / "tables")
    assert row["name"] == "maze_5x5_trained_on_horizon5_num_training_mazes4_size3_seed3"
    assert row["trained_on"] == "env.horizon=5, env.num_training_mazes=4, env.size=3"
    # With its own horizon: 16 trials of two episodes of 5 steps, three times.
    assert row["total_env_steps"] == "480"
    assert 0 <= float(row["measure_search_success_episode_1_greedy"]) <= 1
    written = [path.name for path in (tmp_path / "tables" / "analyses" / row["name"]).iterdir()]
    assert written == ["goal_searches.csv"]


def test_the_kept_weights_repeat_the_row(tmp_path: Path, checkpoint: Path) -> None:
    first = evaluated(tmp_path / "first", checkpoint)
    assert evaluated(tmp_path / "again", tmp_path / "first" / KEPT) == first
    for name in ("seed3", "oracles"):
        curves = f"curves/mab_n10_k5_{name}.csv"
        assert (tmp_path / "first" / curves).read_text() == (
            tmp_path / "again" / curves
        ).read_text()


def test_the_kept_weights_are_small_and_name_no_folder(tmp_path: Path, checkpoint: Path) -> None:
    evaluated(tmp_path, checkpoint)
    whole = torch.load(checkpoint, weights_only=True)
    small = torch.load(tmp_path / KEPT, weights_only=True)
    assert str(checkpoint.parent) in str(whole["hyper_parameters"])
    assert str(checkpoint.parent) not in str(small)
    assert "optimizer_states" not in small
    for name, weight in whole["state_dict"].items():
        assert torch.equal(weight, small["state_dict"][name])
    Agent.load(tmp_path / KEPT)


def test_the_program_tests_the_kept_weights_alike(tmp_path: Path, checkpoint: Path) -> None:
    evaluated(tmp_path, checkpoint)
    summaries = []
    for number, path in enumerate((checkpoint, tmp_path / KEPT)):
        tested = tmp_path / f"tested{number}"
        given = ("mode=test", "experiment=mab_n10_k5", f"ckpt_path={path}", *FEW)
        given += ("trainer.accelerator=cpu",)
        call_program(tmp_path, *given, f"hydra.run.dir={tested}", "logger.tensorboard=null")
        summaries.append(json.loads((tested / "summary.json").read_text()))
    assert summaries[0] == summaries[1]
    assert summaries[1]["env_steps"] == 480


def test_reference_players_play_the_same_tasks_once(
    tmp_path: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    played = HeldOut.reference_curves
    calls = []

    def counted(tasks: HeldOut) -> dict[str, object]:
        calls.append(len(tasks.tasks))
        return played(tasks)

    monkeypatch.setattr(HeldOut, "reference_curves", counted)
    first = evaluated(tmp_path, checkpoint)
    assert evaluated(tmp_path, checkpoint) == first
    assert calls == [30]
    given = ["experiment=mab_n10_k5", f"ckpt_path={checkpoint}", *FEW[1:]]
    more = run([*given, "evaluation.test_tasks=40"], tmp_path)
    assert calls == [30, 40]
    other = run([*given, "evaluation.test_tasks=40", "evaluation.tasks_seed=5"], tmp_path)
    assert calls == [30, 40, 40]
    assert more["random"] != other["random"]
    kept = tmp_path / "curves" / "mab_n10_k5_oracles.csv"
    origin, curves = read_curves(kept)
    curves.pop("thompson")
    write_curves(kept, origin, curves)
    again = run([*given, "evaluation.test_tasks=40", "evaluation.tasks_seed=5"], tmp_path)
    assert again == other, "a file from before a player was added is not enough"
    origin, curves = read_curves(kept)
    write_curves(kept, origin.replace('"num_arms": 5', '"num_arms": 4'), curves)
    calls.clear()
    run([*given, "evaluation.test_tasks=40", "evaluation.tasks_seed=5"], tmp_path)
    assert calls == [40], "nor is one of other tasks"


def test_a_row_is_not_lost_to_one_of_fewer_tasks(tmp_path: Path, checkpoint: Path) -> None:
    row = evaluated(tmp_path, checkpoint)
    given = ["experiment=mab_n10_k5", f"ckpt_path={checkpoint}", *FEW]
    words = "test_tasks=29 would replace the row mab_n10_k5_seed3 in mab.csv, which has 30"
    with pytest.raises(UserError, match=words):
        run([*given, "evaluation.test_tasks=29"], tmp_path)
    assert read_rows(tmp_path, "mab") == [row]


@pytest.mark.parametrize(
    ("experiment", "words"),
    [
        ("mab_n10_k10", r"trained with env.num_arms=5, experiment=mab_n10_k10 has 10: give"),
        ("mab_n100_k5", r"with trial.episodes_per_trial=10, experiment=mab_n100_k5 has 100: give"),
        ("mdp_n10", r"trained with env._target_=.*BernoulliBandit, experiment=.*TabularMDP: give"),
        ("mab_n9_k5", r"experiment=mab_n9_k5 is in no table: use one of mab_n10_k5, "),
    ],
)
def test_a_checkpoint_of_another_cell_is_refused(
    tmp_path: Path, checkpoint: Path, experiment: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        evaluated(tmp_path, checkpoint, experiment)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("trial.episodes_per_trial=10", r"command has trial.episodes_per_trial=10, .* has 100: le"),
        ("env.num_arms=3", r"the command has env.num_arms=3, experiment=mab_n100_k5 has 5: leave"),
        (
            "trainer.devices=2",
            r"trainer.devices=2 for an evaluation, which has no trainer: leave it out",
        ),
        ("learner.critic.separate=false", r"with trial.episodes_per_trial=10, .* has 100: give"),
    ],
)
def test_a_command_does_not_change_the_cell(
    tmp_path: Path, checkpoint: Path, given: str, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        run(["experiment=mab_n100_k5", f"ckpt_path={checkpoint}", FEW[0], given], tmp_path)


def test_a_checkpoint_of_another_agent_is_refused(tmp_path: Path, checkpoint: Path) -> None:
    with pytest.raises(UserError, match=r"trained with memory.hidden_size=4, this run has"):
        run(["experiment=mab_n10_k5", f"ckpt_path={checkpoint}"], tmp_path)


@pytest.mark.parametrize("seed", ["../../elsewhere", 1.5, None, {"_target_": "os.getcwd"}])
def test_a_seed_that_is_no_number_names_no_file(
    tmp_path: Path, checkpoint: Path, seed: object
) -> None:
    content = torch.load(checkpoint, weights_only=True)
    content["hyper_parameters"]["seed"] = seed
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(UserError, match=r"has seed=.*, which is not a number: use another one"):
        evaluated(tmp_path / "tables", tmp_path / "other.ckpt")
    assert [path.name for path in tmp_path.iterdir()] == ["other.ckpt"]


@pytest.mark.parametrize("given", ["experiment=mab_n10_k5", "ckpt_path=last.ckpt"])
def test_both_must_be_given(tmp_path: Path, given: str) -> None:
    with pytest.raises(UserError, match=r"is missing: write (experiment|ckpt_path)="):
        run([given], tmp_path)
