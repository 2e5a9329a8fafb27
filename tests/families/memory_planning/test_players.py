"""The reference players of the Memory & Planning game."""

import itertools

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.families.memory_planning import MemoryPlanning
from rl2_lightning.families.memory_planning.goal_steps import steps_per_goal
from rl2_lightning.families.memory_planning.players import SYMBOLS, LearnsTheMap, symbols_of
from rl2_lightning.families.play import play_reference, play_reference_trials
from rl2_lightning.families.trial_env import TrialEnv
from tests.families.draws import draw_actions, seeded

SIZES = [2, 3, 4]


def distances(size: int) -> torch.Tensor:
    """The number of moves between the cells of a torus, `[cells, cells]`, by brute force."""
    linked = torch.zeros(size**2, size**2)
    for row, column in itertools.product(range(size), repeat=2):
        for down, right in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            linked[row * size + column, (row + down) % size * size + (column + right) % size] = 1
    reached, found = torch.eye(size**2), torch.full((size**2, size**2), -1)
    for moves in range(size + 1):
        found[(reached > 0) & (found < 0)] = moves
        reached = reached @ linked
    return found


def expected_goals(size: int, horizon: int) -> float:
    """The mean return of shortest ways: each goal takes its distance and one step."""
    pairs = distances(size)
    steps = torch.bincount(pairs[pairs > 0] + 1, minlength=size**2 + 2).double()
    chance = steps / steps.sum()
    earned = torch.zeros(horizon + 1, dtype=torch.float64)
    for left in range(1, horizon + 1):
        for taken in range(1, min(left, len(chance) - 1) + 1):
            earned[left] += chance[taken] * (1 + earned[left - taken])
    return earned[horizon].item()


def returns(name: str, size: int, num_tasks: int, horizon: int = 100) -> torch.Tensor:
    env = MemoryPlanning(num_tasks, size=size, horizon=horizon)
    env.set_seed(1)
    tasks = env.sample_tasks(num_tasks)
    return play_reference(env.players(1)[name], env, tasks, 1, seeded(2))


@pytest.mark.parametrize("size", SIZES)
def test_who_knows_the_map_earns_the_optimum(size: int) -> None:
    earned = returns("knows_the_map", size, 5000)
    half_width = 4 * earned.std().item() / 5000**0.5
    assert earned.mean().item() == pytest.approx(expected_goals(size, 100), abs=half_width)


@pytest.mark.parametrize("size", SIZES)
def test_a_shortest_way_is_taken_to_each_goal(size: int) -> None:
    env = MemoryPlanning(200, size=size)
    env.set_seed(0)
    trials = TrialEnv(env, episodes_per_trial=1)
    step = trials.begin(env.sample_tasks(200))
    player, between, generator = env.players(1)["knows_the_map"], distances(size), seeded(0)
    memory, symbols = player.start(env.tasks), env.tasks[SYMBOLS].argmax(2)
    for _ in range(60):
        here, goal = symbols_of(step.inputs.observation)
        cells = [(symbols == one.unsqueeze(1)).long().argmax(1) for one in (here, goal)]
        action = player.choose(memory, step.inputs.observation, generator)
        result = trials.advance(action)
        left = between[cells[0], cells[1]]
        assert torch.equal(result.reward.squeeze(1) > 0, left == 0)
        now = (symbols == symbols_of(result.following.inputs.observation)[0].unsqueeze(1)).long()
        nearer = between[now.argmax(1), cells[1]] == left - 1
        assert (nearer | (left == 0)).all()
        step = result.following


@pytest.mark.parametrize("size", SIZES)
def test_who_learns_draws_the_map_as_it_is(size: int) -> None:
    env = MemoryPlanning(50, size=size, horizon=30)
    env.set_seed(0)
    trials = TrialEnv(env, episodes_per_trial=8)
    step = trials.begin(env.sample_tasks(50))
    player = LearnsTheMap(size)
    memory = player.start(env.tasks)
    cell = env.tasks[SYMBOLS].argmax(1)
    truth = torch.stack([cell // size, cell % size], 2)
    sizes = []
    for action in draw_actions(env, 230):
        following = trials.advance(action).following
        memory = player.learn(memory, step.inputs.observation, following.inputs)
        step = following
        # All differences within a piece equal those on the torus.
        same = memory.piece.unsqueeze(1) == memory.piece.unsqueeze(2)
        on_map, on_torus = (
            (place.unsqueeze(1) - place.unsqueeze(2)) % size for place in (memory.place, truth)
        )
        assert torch.equal(on_map[same], on_torus[same])
        sizes.append(same.float().mean().item())
    assert sizes == sorted(sizes)
    assert sizes[0] < 1 == sizes[-1], "in the end the map is whole"


def test_who_learns_is_as_good_as_who_knows_once_it_has_seen_all() -> None:
    env = MemoryPlanning(4000)
    env.set_seed(1)
    tasks = env.sample_tasks(4000)
    steps = {}
    for name in ("knows_the_map", "learns_the_map"):
        trials = play_reference_trials(env.players(1)[name], env, tasks, 1, seeded(2))
        steps[name] = steps_per_goal(trials)[0].double().mean(0)
    learner, knower = steps["learns_the_map"], steps["knows_the_map"]
    assert learner[0] > 2.5 * knower[0]
    assert learner[0] < 1 + 17 / 2 + 1.2, (
        "it hardly goes anywhere twice: half of the cells, and one"
    )
    assert learner[14].item() == pytest.approx(knower[14].item(), abs=0.1)


def test_players_that_explore_stand_in_order() -> None:
    earned = [
        returns(name, 3, 1000).mean() for name in ("random", "learns_the_map", "knows_the_map")
    ]
    assert earned == sorted(earned)
    assert earned[1] > 10 * earned[0]


def test_the_reference_is_not_told_the_map() -> None:
    players = MemoryPlanning(1).players(1)
    assert not next(reversed(players.values())).privileged
    assert players["knows_the_map"].privileged


def test_rewards_are_goals() -> None:
    env = MemoryPlanning(20, size=3, horizon=17)
    env.set_seed(1)
    player = env.players(1)["learns_the_map"]
    trials = play_reference_trials(player, env, env.sample_tasks(20), 1, seeded(0))
    reward = trials[keys.REWARD]
    assert ((reward == 0) | (reward == 1)).all()
