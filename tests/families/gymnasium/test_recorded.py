"""Entries of an environment's info are recorded in each step, and reported by episode."""

import csv
import math
from pathlib import Path

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import FailedEnvironmentError
from rl2_lightning.families.gymnasium.recorded import RecordedInfo, by_episode
from rl2_lightning.families.play import ReferenceActor, play
from rl2_lightning.families.random_player import RandomPlayer
from rl2_lightning.families.trial_env import TrialEnv
from tests.command_line.program import SMALL, call_program
from tests.families.gymnasium.played import ENVS, HORIZON, NUM_EPISODES, tasks_of

NAN = math.nan


def test_each_step_has_what_the_environment_told(backend: str) -> None:
    settings = {"tasks": 3, "task_by": "method", "kwargs": {"ends": "terminated"}}
    recorded = ["in_time", "count"]
    task_env = tasks_of("Telling", backend, recorded=recorded, **settings)
    env = TrialEnv(task_env, episodes_per_trial=NUM_EPISODES)
    env.set_seed(1)
    actor = ReferenceActor(RandomPlayer(env.action_spec_unbatched), torch.Generator())
    tasks = TensorDict({"task": torch.tensor([[0], [1], [0], [1], [0]])}, [5])
    steps = play(actor, env, tasks)[keys.STEPS]
    num_steps = 4 * NUM_EPISODES
    for row, task in enumerate([0, 1, 0, 1, 0]):
        counts = [1.0, 2.0, 3.0, 4.0] * NUM_EPISODES
        told = steps[row, :num_steps]
        assert told[keys.of_info("count")].flatten().tolist() == counts
        in_time = [float(count == task) for count in counts]
        assert told[keys.of_info("in_time")].flatten().tolist() == in_time
    env.close()


def test_what_is_not_recorded_is_not_looked_at(backend: str) -> None:
    env = tasks_of("Telling", backend, tasks=[5.0, 6.0], task_by="method")
    assert env.recorded_keys == ()
    assert env.analysis(2) is None
    env.reset()
    env.play(torch.zeros(5, dtype=torch.int64), torch.ones(5, 1, dtype=torch.bool))
    assert env.info == {}
    env.close()


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (
            "in_time",
            r"in the task 5\.0: LookupError: env\.recorded has in_time, but .* has count",
        ),
        ("noise", "in the task 5.0: ValueError: could not convert string to float"),
    ],
)
def test_an_entry_that_cannot_be_recorded(backend: str, name: str, told: str) -> None:
    env = tasks_of("Telling", backend, tasks=[5.0, 5.0], task_by="method", recorded=[name])
    env.reset()
    with pytest.raises(FailedEnvironmentError, match=told):
        env.play(torch.zeros(5, dtype=torch.int64), torch.ones(5, 1, dtype=torch.bool))
    env.close()


def trials(*played: list[list[float]]) -> TensorDict:
    """Trials with given values in the steps of their episodes, and garbage on idle tails."""
    shape = len(played), max(sum(map(len, trial)) for trial in played), 1
    value, episode = torch.full(shape, NAN), torch.full(shape, 99)
    mask = torch.zeros(shape, dtype=torch.bool)
    for row, trial in enumerate(played):
        flat = [(number, one) for number, values in enumerate(trial) for one in values]
        for step, (number, one) in enumerate(flat):
            value[row, step], episode[row, step], mask[row, step] = one, number, True
    entries = {keys.of_info("success"): value, keys.EPISODE: episode, keys.MASK: mask}
    return TensorDict(entries, batch_size=shape[:2])


PLAYED = trials(
    [[0, 1, 0], [0, 0]],
    [[0], [-3, -2, -1, -4]],
    [[1]],
)


def test_largest_and_last_values() -> None:
    largest, last, played = by_episode(PLAYED, keys.of_info("success"), 2)
    assert largest.tolist() == [[1, 0], [0, -1], [1, 0]]
    assert last.tolist() == [[0, 0], [0, -4], [1, 0]]
    assert played.tolist() == [[True, True], [True, True], [True, False]]


def test_figures_are_means_over_trials() -> None:
    analysis = RecordedInfo(["success"], 2)
    metric = analysis.make_metric(sync_on_compute=False)
    for chunk in PLAYED.split([1, 2]):
        analysis.add(metric, chunk)
    found = {name: one.value for name, one in metric.compute().estimates().items()}
    assert found == pytest.approx({
        "success_max_episode_1": 2 / 3,
        "success_max_episode_2": -1 / 2,
        "success_last_episode_1": 1 / 3,
        "success_last_episode_2": -2,
    })  # fmt: skip


def reported(run: Path) -> dict[tuple[str, str], float]:
    with (run / "recorded.csv").open(newline="") as file:
        rows = list(csv.reader(file))[1:]
    return {(player, name): float(value) for player, name, value, _ in rows}


def test_a_test_reports_them(tmp_path: Path) -> None:
    family = (
        "env=gymnasium",
        f"env.id={ENVS}:Telling",
        "env.task_by=method",
        "env.tasks=2",
        f"env.horizon={HORIZON}",
    )
    trained, tested = tmp_path / "trained", tmp_path / "tested"
    entry = "env.recorded=[count]"
    call_program(tmp_path, *SMALL, *family, entry, f"hydra.run.dir={trained}")
    found = reported(trained)
    players = [f"agent_{mode}" for mode in ("greedy", "sampled")]
    figures = [f"count_{kind}_episode_{number}" for kind in ("max", "last") for number in (1, 2)]
    assert found == {(player, name): HORIZON for player in players for name in figures}
    # Afterwards, of an agent that was trained without.
    call_program(tmp_path, *SMALL, *family, f"hydra.run.dir={tmp_path / 'without'}")
    way = (f"ckpt_path={tmp_path / 'without'}", "mode=test", "evaluation.other_sizes=true")
    call_program(tmp_path, *family, *way, entry, f"hydra.run.dir={tested}")
    assert reported(tested) == found
