"""The data module: collected trials, shares of the ranks, and seeds."""

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.build import build_data, build_learner
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.errors import UserError
from rl2_lightning.families.bandits.env import ARM_PROBABILITIES
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from tests.builders import attach, compose_config

TINY = (
    "collection.num_trials=16",
    "collection.total_env_steps=9600",
    "collection.expected_rewards=false",
    "learner.num_epochs=1",
    "learner.num_minibatches=2",
    "learner.critic={separate:false,sees_task:false,hidden_sizes:[]}",
    "memory.hidden_size=4",
    "trial.episodes_per_trial=6",
    "evaluation.validation_tasks=10",
    "evaluation.test_tasks=11",
    "evaluation.batch_size=4",
)


def make_data(folder: Path, *overrides: str, rank: int = 0, iteration: int = 0) -> TrialDataModule:
    """A data module of two ranks, with a learner."""
    cfg = compose_config(folder, *TINY, *overrides)
    data = build_data(cfg)
    attach(data, build_learner(cfg, data), rank=rank, iteration=iteration)
    return data


def collected(folder: Path, *overrides: str, **place: int) -> TensorDictBase:
    """All windows of one iteration, in shuffled order."""
    data = make_data(folder, "learner.num_minibatches=1", *overrides, **place)
    (minibatch,) = data.train_dataloader()
    return minibatch


def rewards(folder: Path, *overrides: str, **place: int) -> torch.Tensor:
    return collected(folder, *overrides, **place)[keys.WINDOW, keys.PREVIOUS_REWARD]


def test_each_rank_collects_its_share(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    minibatches = list(data.train_dataloader())
    assert [len(minibatch) for minibatch in minibatches] == [4, 4], "eight of sixteen trials"


def test_trials_stay_where_they_were_played(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    (minibatch, _) = data.train_dataloader()
    assert data.transfer_batch_to_device(minibatch, torch.device("cpu"), 0) is minibatch
    moved = data.transfer_batch_to_device(minibatch, torch.device("meta"), 0)
    assert moved[keys.WINDOW, keys.MASK].device.type == "meta"


def test_each_iteration_is_counted_and_another_one(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    clock = data.trainer.lightning_module.clock
    source = data.train_dataloader()
    seen = []
    for iteration in (1, 2):
        seen.append(torch.cat([m[keys.WINDOW, keys.PREVIOUS_REWARD] for m in source]))
        assert (clock.iterations, clock.env_steps) == (iteration, iteration * 8 * 6)
    assert not torch.equal(*seen)


def test_a_curriculum_changes_what_an_iteration_collects(tmp_path: Path) -> None:
    stages = "collection.curriculum={short:{env_steps:200,num_trials:32,trial_length:3}}"
    shapes = [
        collected(tmp_path, f"+{stages}", iteration=iteration)[keys.WINDOW].batch_size
        for iteration in (0, 1, 2)
    ]
    assert shapes == [(16, 3), (16, 3), (8, 6)], "half of the trials are the other rank's"


def test_iteration_follows_from_seed_rank_and_number(tmp_path: Path) -> None:
    first = rewards(tmp_path)
    assert torch.equal(first, rewards(tmp_path))
    for other in (
        rewards(tmp_path, rank=1),
        rewards(tmp_path, iteration=1),
        rewards(tmp_path, "seed=2"),
    ):
        assert not torch.equal(first, other)


def test_what_was_played_before_does_not_matter(tmp_path: Path) -> None:
    data = make_data(tmp_path, "learner.num_minibatches=1")
    source, clock = data.train_dataloader(), data.trainer.lightning_module.clock
    list(source)
    clock.iterations_done.fill_(5)
    (after,) = source
    expected = rewards(tmp_path, iteration=5)
    assert torch.equal(after[keys.WINDOW, keys.PREVIOUS_REWARD], expected)


@pytest.mark.parametrize("window", [None, 4, 6, 20])
def test_windows_as_configured(tmp_path: Path, window: int | None) -> None:
    minibatch = collected(tmp_path, f"collection.window={window or 'null'}", "collection.burn_in=0")
    length = min(window or 6, 6)
    assert minibatch[keys.WINDOW].batch_size == (8 * -(-6 // length), length)
    assert int(minibatch[keys.WINDOW, keys.MASK].sum()) == 8 * 6
    assert keys.BURN_IN not in minibatch.keys()  # noqa: SIM118


@pytest.mark.parametrize(("window", "burn_in"), [(4, 2), (20, 10)])
def test_burn_in_as_configured(tmp_path: Path, window: int, burn_in: int) -> None:
    sizes = (f"collection.window={window}", f"collection.burn_in={burn_in}")
    minibatch = collected(tmp_path, *sizes)
    # A window, and so a burn-in, is at most as long as the trial.
    assert minibatch[keys.BURN_IN].batch_size[1] == min(burn_in, 6)


def test_a_cut_of_a_longer_life_is_collected_with_the_step_after_it(tmp_path: Path) -> None:
    for continues in (False, True):
        data = make_data(tmp_path, f"trial.continues={str(continues).lower()}")
        learner = data.trainer.lightning_module
        prepare, lengths = learner.prepare, []

        def spy(
            trials: TensorDictBase,
            steps: Sequence[int],
            prepare=prepare,
            lengths: list[int] = lengths,
        ) -> TensorDictBase:
            lengths.append(trials[keys.STEPS].batch_size[1])
            return prepare(trials, steps)

        learner.prepare = spy
        (first, _) = data.train_dataloader()
        assert lengths == [6 + continues]
        assert first[keys.WINDOW].batch_size == (4, 6)


@pytest.mark.parametrize("window", ["null", "4"])
def test_a_critic_that_sees_the_task_gets_the_one_that_was_played(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, window: str
) -> None:
    draw = BernoulliBandit.sample_tasks
    # Arms that always or never pay: the rewards identify the bandit.
    monkeypatch.setattr(BernoulliBandit, "sample_tasks", lambda *given: draw(*given).round())
    overrides = ("learner.critic.sees_task=true", f"collection.window={window}")
    for iteration in (0, 1):
        minibatch = collected(tmp_path, *overrides, iteration=iteration)
        steps = minibatch[keys.WINDOW]
        assert keys.TASK not in steps.keys(), "once is enough"  # noqa: SIM118
        mask = (steps[keys.MASK] & ~steps[keys.IS_INIT]).squeeze(-1)
        arms = minibatch[keys.TASK, ARM_PROBABILITIES].unsqueeze(1).expand(*mask.shape, -1)
        paid = arms[mask].gather(1, steps[keys.PREVIOUS_ACTION][mask].unsqueeze(1))
        assert torch.equal(steps[keys.PREVIOUS_REWARD][mask], paid)
        assert 0 < paid.mean() < 1


def test_without_such_a_critic_no_task_is_kept(tmp_path: Path) -> None:
    assert keys.TASK not in collected(tmp_path).keys()  # noqa: SIM118


def test_held_out_tasks_are_the_ones_that_are_played(tmp_path: Path) -> None:
    data = make_data(tmp_path)
    held_out = data.held_out["test"].tasks
    # Arms that always or never pay: the rewards identify the task.
    pays = torch.arange(len(held_out)) % 3 == 0
    held_out[ARM_PROBABILITIES] = pays.float().unsqueeze(1).expand(-1, 5).clone()
    for loader in data.test_dataloader():
        earned = torch.cat([steps[keys.REWARD] for steps in loader]).squeeze(-1)
        share = torch.arange(len(held_out)).tensor_split(2)[0]
        assert torch.equal(earned, pays[share].float().unsqueeze(1).expand(-1, 6))


def test_held_out_tasks_are_shared_out_whole(tmp_path: Path) -> None:
    first, second = (make_data(tmp_path, rank=rank).test_dataloader() for rank in (0, 1))
    for on_first, on_second in zip(first, second, strict=True):
        sizes = [[len(steps) for steps in loader] for loader in (on_first, on_second)]
        assert sizes == [[4, 2], [4, 1]], "eleven tasks, at most four at once"
        assert [len(on_first), len(on_second)] == [2, 2]


def test_held_out_tasks_are_played_greedily_and_by_sampling(tmp_path: Path) -> None:
    data = make_data(tmp_path, "evaluation.batch_size=10")
    greedy, sampled = data.val_dataloader()
    (first,), (second,) = greedy, sampled
    assert not torch.equal(first[keys.REWARD], second[keys.REWARD])


def test_budget_that_holds_no_iteration(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"total_env_steps=95 is less than the 96 env steps"):
        make_data(tmp_path, "collection.total_env_steps=95")
    assert make_data(tmp_path, "collection.total_env_steps=96").plan.num_iterations == 1
    assert make_data(tmp_path, "collection.total_env_steps=200").plan.num_iterations == 2


@pytest.mark.parametrize("expected", [False, True])
def test_only_what_is_learnt_from_is_the_expected_reward(tmp_path: Path, expected: bool) -> None:
    data = make_data(tmp_path, f"collection.expected_rewards={str(expected).lower()}")
    learner = data.trainer.lightning_module
    prepare, learnt_from = learner.prepare, []

    def spy(trials: TensorDictBase, steps: Sequence[int]) -> TensorDictBase:
        learnt_from.append(trials[keys.STEPS, keys.REWARD].clone())
        return prepare(trials, steps)

    learner.prepare = spy
    seen = torch.cat([m[keys.WINDOW, keys.PREVIOUS_REWARD] for m in data.train_dataloader()])
    assert set(seen.unique().tolist()) == {0.0, 1.0}
    drawn = (learnt_from[0] == 0) | (learnt_from[0] == 1)
    assert drawn.all() if not expected else not drawn.any()
    played = data.held_out["test"].play(learner.agent, [0, 1, 2, 3], greedy=False)
    assert set(played[keys.REWARD].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize(
    ("env", "steps", "has_players"),
    [("grid_navi", 30, True), ("grid_navi", 31, False), ("visual_maze", 500, False)],
)
def test_reference_players_play_what_the_agent_plays(
    tmp_path: Path, env: str, steps: int, has_players: bool
) -> None:
    lengths = ("trial.episodes_per_trial=null", f"trial.steps_per_trial={steps}")
    data = build_data(compose_config(tmp_path, *TINY, f"env={env}", *lengths))
    held_out = data.held_out["test"]
    assert (held_out.reference is not None) == has_players
    assert bool(held_out.players) == has_players
    if has_players:
        assert held_out.num_episodes == 2, "of 15 steps each"
