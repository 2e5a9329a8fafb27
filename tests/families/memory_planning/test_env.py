"""The Memory & Planning game: the torus, the observations, and the rewards."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.memory_planning import MemoryPlanning
from rl2_lightning.families.memory_planning.players import SYMBOLS, symbols_of

UP, RIGHT, DOWN, LEFT, COLLECT = range(5)


def start(num_tasks: int = 1, size: int = 3, *, seed: int = 0) -> tuple[MemoryPlanning, list[int]]:
    """A game, and the symbols of the first torus, row by row."""
    env = MemoryPlanning(num_tasks, size=size)
    env.set_seed(seed)
    env.reset()
    return env, env.tasks[SYMBOLS][0].argmax(1).tolist()


def play(env: MemoryPlanning, *actions: int, only: int | None = None) -> tuple[list, list, list]:
    """The symbols of the cell and of the goal, and the rewards, in the first game."""
    playing = torch.ones(env.num_tasks, 1, dtype=torch.bool)
    if only is not None:
        playing = torch.arange(env.num_tasks).unsqueeze(1) == only
    seen: tuple[list, list, list] = ([], [], [])
    for action in actions:
        result = env.play(torch.full((env.num_tasks,), action), playing)
        here, goal = symbols_of(result.observation)
        for entries, entry in zip(seen, (here, goal, result.reward), strict=True):
            entries.append(entry[0].item())
    return seen


def test_every_cell_has_a_symbol_of_its_own() -> None:
    tasks = MemoryPlanning(1, size=3).sample_tasks(5000)[SYMBOLS]
    assert (tasks.sum(1) == 1).all()
    assert (tasks.sum(2) == 1).all()
    share = tasks.mean(0)
    assert (share - 1 / 9).abs().max() < 4.5 * (1 / 9 * 8 / 9 / 5000) ** 0.5


@pytest.mark.parametrize("size", [3, 4])
def test_the_torus_has_no_edge(size: int) -> None:
    env, symbols = start(size=size)
    here = symbols.index(symbols_of(env.begin_episodes(torch.ones(1, 1, dtype=torch.bool)))[0])
    row, column = divmod(here, size)
    ways = {UP: (-1, 0), RIGHT: (0, 1), DOWN: (1, 0), LEFT: (0, -1)}
    for action, (down, right) in ways.items():
        found, _, paid = play(env, *[action] * size)
        cells = [
            ((row + i * down) % size) * size + (column + i * right) % size for i in range(size + 1)
        ]
        assert found == [symbols[cell] for cell in cells[1:]]
        assert cells[-1] == here, "round the torus and back"
        assert not any(paid)


def test_a_goal_pays_where_it_is_collected_and_another_one_is_asked_for() -> None:
    env, _ = start(2000)
    size, goals, cells = 3, [], []
    for _ in range(2):
        observation = env.begin_episodes(torch.zeros(2000, 1, dtype=torch.bool))
        here, goal = symbols_of(observation)
        assert (here != goal).all(), "there is always a way to go"
        symbol = env.tasks[SYMBOLS].argmax(2)
        at, to = ((symbol == one.unsqueeze(1)).long().argmax(1) for one in (here, goal))
        everyone = torch.ones(2000, 1, dtype=torch.bool)
        for turn, move in ((size, DOWN), (1, RIGHT)):
            steps = (to // turn - at // turn) % size
            for step in range(size):
                result = env.play(torch.full((2000,), move), (step < steps).unsqueeze(1))
                assert not result.reward[step < steps].any()
        elsewhere = env.play(torch.full((2000,), COLLECT), everyone)
        assert (elsewhere.reward == 1).all()
        assert not elsewhere.episode_done.any()
        now = symbols_of(elsewhere.observation)
        cells.append((now[0] != goal).float().mean())
        goals.append((now[1] != goal).float().mean())
    # Cells are uniform, and goals are uniform over the other cells.
    assert torch.stack(cells).mean().item() == pytest.approx(8 / 9, abs=0.03)
    assert torch.stack(goals).mean().item() == pytest.approx(8 / 9, abs=0.03)


def test_to_collect_elsewhere_does_nothing() -> None:
    env, _ = start()
    here, goal = symbols_of(env.begin_episodes(torch.zeros(1, 1, dtype=torch.bool)))
    assert play(env, COLLECT, COLLECT) == ([here] * 2, [goal] * 2, [0, 0])


def test_who_does_not_play_stays() -> None:
    env, _ = start(2)
    before = env.begin_episodes(torch.zeros(2, 1, dtype=torch.bool))
    play(env, RIGHT, DOWN, RIGHT, only=1)
    after = env.begin_episodes(torch.zeros(2, 1, dtype=torch.bool))
    assert torch.equal(before[0], after[0])
    assert not torch.equal(before[1], after[1])


def test_the_symbols_stay_over_an_episode() -> None:
    env = MemoryPlanning(3, size=3, horizon=5)
    state = env.reset()
    symbols = env.tasks[SYMBOLS].clone()
    for _ in range(5):
        state = env.step(state.set(keys.ACTION, torch.tensor([UP, LEFT, COLLECT])))[keys.NEXT]
    assert state[keys.TRIAL_DONE].all()
    request = TensorDict({"_reset": torch.ones(3, 1, dtype=torch.bool), keys.TASK: env.tasks}, [3])
    env.reset(request)
    assert torch.equal(env.tasks[SYMBOLS], symbols)


@pytest.mark.parametrize(("size", "told"), [(1, "at least 2"), (17, "at most 16")])
def test_impossible_sizes(size: int, told: str) -> None:
    with pytest.raises(UserError, match=f"^env.size={size} is out of range: set it to {told}$"):
        MemoryPlanning(1, size=size)
