"""Held-out tasks: their play, and the curves of the reference players."""

from itertools import chain
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.config import TrialConfig
from rl2_lightning.data.seeding import Purpose
from rl2_lightning.data.world import World
from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.evaluation import held_out
from rl2_lightning.evaluation.held_out import MODES, HeldOut
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.play import episode_returns
from rl2_lightning.families.player import ClosedFormPlayer, Player
from rl2_lightning.families.point_robot import GOAL, PointRobot
from tests.builders import bandit_trials, make_agent, point_trials

NUM_EPISODES, NUM_TASKS = 3, 25


class Noisy(ClosedFormPlayer):
    """Earns the probability of each task's first arm, times its skill, plus noise."""

    def __init__(self, skill: float) -> None:
        self.skill = skill
        self.sizes: list[int] = []

    def returns(
        self, tasks: TensorDictBase, num_episodes: int, generator: torch.Generator
    ) -> Tensor:
        self.sizes.append(len(tasks))
        noise = torch.randn(len(tasks), num_episodes, generator=generator)
        return self.skill * tasks["level"] + 0.1 * noise


class Levels(BernoulliBandit):
    """Bandits whose tasks also have a level, with given players."""

    given: dict[str, Player | ClosedFormPlayer]

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        tasks = super().sample_tasks(num_tasks)
        return tasks.set("level", torch.linspace(0, 2, num_tasks).unsqueeze(1))

    def players(self, num_episodes: int) -> dict[str, Player | ClosedFormPlayer]:
        return self.given


def make_held_out(seed: int = 0, **players: Player | ClosedFormPlayer) -> HeldOut:
    def make(num_tasks: int, device: Any) -> Levels:
        env = Levels(num_tasks, device, num_arms=3)
        env.given = players
        return env

    trial = TrialConfig(episodes_per_trial=NUM_EPISODES, steps_per_trial=None, continues=False)
    return HeldOut(World(make, trial), Purpose.TEST_TASKS, NUM_TASKS, seed, batch_size=10)


class FirstArm(Player):
    """Always pulls the first arm."""

    def start(self, tasks: TensorDictBase) -> int:
        return len(tasks)

    def choose(self, memory: int, observation: Tensor, generator: torch.Generator) -> Tensor:
        return torch.zeros(memory, dtype=torch.int64)


def test_players_play_each_task_once_in_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_out, "TASKS_PER_CHUNK", 10)
    good, best = Noisy(0.5), Noisy(1.0)
    tasks = make_held_out(good=good, best=best)
    curves = tasks.reference_curves()
    again = tasks.reference_curves()
    assert list(curves) == ["good", "best"]
    assert curves["best"] is again["best"]
    assert good.sizes == best.sizes == [10, 10, 5]
    assert curves["best"].num_trials == NUM_TASKS
    assert curves["best"].mean.shape == (NUM_EPISODES,)
    assert curves["best"].trial_return == pytest.approx(3.0, abs=0.1)
    assert tasks.reference == "best"
    assert tasks.share_of_reference(curves["good"]) == pytest.approx(0.5, abs=0.03)
    assert tasks.share_of_reference(curves["best"]) == 1.0


def test_nothing_is_played_before_a_curve_is_asked_for() -> None:
    best = Noisy(1.0)
    tasks = make_held_out(best=best)
    assert (tasks.reference, len(tasks), list(tasks.players)) == ("best", NUM_TASKS, ["best"])
    assert not best.sizes


def test_curves_come_from_the_seed_and_the_name_alone() -> None:
    for make in (lambda: Noisy(1.0), FirstArm):

        def mean(seed: int, make: Any = make, **others: Player | ClosedFormPlayer) -> Tensor:
            return make_held_out(seed, **others, best=make()).reference_curves()["best"].mean

        assert torch.equal(mean(0), mean(0, other=Noisy(0.2), another=FirstArm()))
        assert not torch.equal(mean(0), mean(1))


def test_a_family_without_players() -> None:
    tasks = make_held_out()
    curve = make_held_out(best=Noisy(1.0)).reference_curves()["best"]
    assert tasks.reference_curves() == {}
    assert tasks.reference_findings() == {}
    assert tasks.reference is None
    assert tasks.share_of_reference(curve) is None


def robots(num_tasks: int, device: Any) -> PointRobot:
    return PointRobot(num_tasks, device, goals="square", reward="dense", horizon=3)


def robots_held_out(batch_size: int = 10, num_tasks: int = NUM_TASKS) -> HeldOut:
    trial = TrialConfig(episodes_per_trial=NUM_EPISODES, steps_per_trial=None, continues=False)
    return HeldOut(World(robots, trial), Purpose.TEST_TASKS, num_tasks, 0, batch_size)


@pytest.mark.parametrize("greedy", [False, True])
def test_an_agent_plays_the_tasks_it_is_given(greedy: bool) -> None:
    tasks, agent = robots_held_out(), make_agent(point_trials(1))
    steps = tasks.play(agent, [4, 7, 9], greedy=greedy, shows_position=True)
    assert steps.batch_size == (3, 9)
    goals = tasks.tasks[[4, 7, 9]][GOAL].unsqueeze(1)
    distance = (steps[keys.REACHED] - goals).norm(dim=-1, keepdim=True)
    torch.testing.assert_close(steps[keys.REWARD], -distance)
    assert keys.OBSERVATION in steps.keys()  # noqa: SIM118
    unwatched = tasks.play(agent, [4, 7, 9], greedy=greedy)
    assert set(unwatched.keys(True, True)) == {keys.REWARD, keys.EPISODE, keys.MASK}
    assert torch.equal(unwatched[keys.REWARD], steps[keys.REWARD])


def test_what_is_played_follows_from_the_first_index_alone() -> None:
    tasks, agent = robots_held_out(), make_agent(point_trials(1))
    first = tasks.play(agent, [3, 4], greedy=False)
    tasks.play(agent, [8, 9], greedy=False)
    torch.manual_seed(5)
    assert (tasks.play(agent, [3, 4], greedy=False) == first).all()
    other = robots_held_out().play(agent, [3, 4], greedy=False)
    assert (other == first).all()
    # The same task in the second row, with other draws.
    one, another = (tasks.play(agent, [index, 9], greedy=False)[1] for index in (3, 4))
    assert not torch.equal(one[keys.REWARD], another[keys.REWARD])


def test_ranks_share_the_tasks_in_order() -> None:
    tasks = robots_held_out()
    shares = [tasks.chunks(rank, 2) for rank in (0, 1)]
    assert [[len(chunk) for chunk in share] for share in shares] == [[10, 3], [10, 2]]
    assert list(chain(*chain(*shares))) == list(range(NUM_TASKS))


def test_loaders_play_within_the_context_of_the_precision() -> None:
    tasks, agent = robots_held_out(), make_agent(point_trials(1))
    entered: list[str] = []

    class Context:
        def __enter__(self) -> None:
            entered.append("in")

        def __exit__(self, *error: object) -> None:
            entered.append("out")

    loaders = tasks.loaders(agent, torch.device("cpu"), context=Context)
    assert len(loaders) == len(MODES)
    greedy = list(loaders[0])
    assert entered == ["in", "out"] * 3
    returns = [episode_returns(steps, NUM_EPISODES)[0] for steps in greedy]
    assert torch.cat(returns).shape == (NUM_TASKS, NUM_EPISODES)
    again = list(loaders[0])
    assert all((one == other).all() for one, other in zip(greedy, again, strict=True))


def test_a_policy_that_is_not_finite_is_told() -> None:
    agent = make_agent(bandit_trials(1))
    with torch.no_grad():
        agent.policy.layers[-1].bias.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match="weights are not finite: lower"):
        make_held_out().play(agent, [0, 1], greedy=True)
