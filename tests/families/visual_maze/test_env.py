"""Visual mazes: training mazes, starts and ends of episodes, rewards and reference players."""

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.play import ReferenceActor, play, play_reference
from rl2_lightning.families.scene import GOAL
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.families.visual_maze import VisualMaze
from rl2_lightning.families.visual_maze.layout import distances
from rl2_lightning.families.visual_maze.motion import FORWARD, START, TURN_LEFT, WALLS
from rl2_lightning.families.visual_maze.players import ShortestPath


def identities(tasks: TensorDict) -> set[tuple[float, ...]]:
    entries = [tasks[key].flatten(1).float() for key in (WALLS, GOAL, START)]
    return {tuple(row) for row in torch.cat(entries, dim=1).tolist()}


def test_training_knows_some_mazes_and_the_test_none_of_them() -> None:
    env = VisualMaze(64, size=3, num_training_mazes=10)
    env.set_seed(1)
    trained = set()
    for _ in range(5):
        env.reset()
        trained |= identities(env.tasks)
    assert len(trained) == 10
    again = VisualMaze(64, size=3, num_training_mazes=10)
    again.set_seed(2)
    again.reset()
    assert identities(again.tasks) <= trained, "whatever the seed"
    assert len(identities(env.sample_tasks(64)) & trained) < 5
    trials = TrialEnv(VisualMaze(64, size=3, num_training_mazes=10), episodes_per_trial=2)
    trials.reset()
    assert identities(trials.task_env.tasks) <= trained


def test_without_a_number_mazes_are_always_new() -> None:
    env = VisualMaze(64, size=4, num_training_mazes=None)
    env.reset()
    first = identities(env.tasks)
    env.reset()
    assert not first & identities(env.tasks)


def shortest_paths(mazes: VisualMaze, num_episodes: int = 2) -> TensorDict:
    """Trials of the player that knows the way."""
    trials = TrialEnv(mazes, episodes_per_trial=num_episodes)
    trials.set_seed(0)
    return play(ReferenceActor(ShortestPath(), torch.Generator()), trials)


def test_an_episode_ends_at_the_goal_and_the_next_one_starts_anew() -> None:
    played = shortest_paths(VisualMaze(16, size=3, horizon=80))
    steps = played[keys.STEPS]
    length = episode_lengths(steps)
    assert torch.equal(length[:, 0], length[:, 1])
    for row in range(16):
        first, second = length[row].tolist()
        frames, ends = steps[keys.OBSERVATION][row], steps[keys.EPISODE_DONE][row].squeeze(1)
        assert ends.nonzero().flatten().tolist() == [first - 1, first + second - 1]
        # Both episodes show the same frames, and the last step reaches the goal.
        assert torch.equal(frames[:first], frames[first : first + second])
        assert not steps[keys.MASK][row, first + second :].any()
        assert (steps[keys.REWARD][row, first + second :] == 0).all()


def episode_lengths(steps: TensorDict, num_episodes: int = 2) -> torch.Tensor:
    mask, episode = steps[keys.MASK].squeeze(2), steps[keys.EPISODE].squeeze(2)
    return torch.stack([(mask & (episode == e)).sum(1) for e in range(num_episodes)], dim=1)


def test_the_shortest_path_is_as_long_as_it_should_be() -> None:
    mazes = VisualMaze(200, size=5)
    played = shortest_paths(mazes, 1)
    length = episode_lengths(played[keys.STEPS], 1).squeeze(1)
    start = mazes.tasks[START][:, :2].long().flip(1)
    cells = distances(mazes.tasks[WALLS], mazes.tasks[GOAL].long().flip(1))
    away = cells[torch.arange(200), start[:, 0], start[:, 1]]
    # Four steps per cell except the last, in which the goal is reached after three; and turns.
    straight = 4 * away - 1
    assert (length >= straight).all()
    assert (length <= straight + 4 * away + 4).all()
    earned = (played[keys.STEPS][keys.REWARD] * played[keys.STEPS][keys.MASK]).sum((1, 2))
    torch.testing.assert_close(earned, 1 - 0.01 * length.float())


def test_players_by_name() -> None:
    env = VisualMaze(100, size=3, horizon=60)
    env.set_seed(3)
    tasks, generator = env.sample_tasks(100), torch.Generator().manual_seed(0)
    players = env.players(2)
    assert list(players) == ["random", "shortest_path"]
    returns = {
        name: play_reference(player, env, tasks, 2, generator) for name, player in players.items()
    }
    assert returns["random"].shape == (100, 2)
    assert returns["random"].mean() < 0.2 < 0.6 < returns["shortest_path"].mean()


def test_what_a_step_earns() -> None:
    # From the middle of a cell with walls to the west, east and south.
    walls = torch.ones(4, 2, 4, 3, dtype=torch.uint8)
    walls[:, 0, 1, 0] = 0
    start = torch.tensor([[0.5, 0.5, 4], [0.5, 0.7, 4], [1.0, 0.5, 0], [0.5, 0.5, 0]])
    goal = torch.tensor([[2.5, 2.5], [2.5, 2.5], [1.5, 0.5], [1.5, 0.5]])
    env = VisualMaze(4, size=3)
    tasks = TensorDict({WALLS: walls, GOAL: goal, START: start}, [4])
    env.reset(TensorDict({keys.TASK: tasks}, [4]))
    answer = env.step(TensorDict({keys.ACTION: torch.full((4,), FORWARD)}, [4]))[keys.NEXT]
    assert answer[keys.STEP_REWARD].flatten().tolist() == pytest.approx(
        [-0.01, -0.011, 0.99, -0.01]
    )
    assert answer["terminated"].flatten().tolist() == [False, False, True, False]


def test_who_does_not_play_stays_and_sees_the_same() -> None:
    alone, all_of_them = VisualMaze(8, size=3), VisualMaze(8, size=3)
    playing = (torch.arange(8) % 3 == 0).unsqueeze(1)
    for env in (alone, all_of_them):
        env.set_seed(0)
        before = env.reset()[keys.OBSERVATION]
    action = torch.full((8,), TURN_LEFT)
    after = alone.play(action, playing).observation
    expected = all_of_them.play(action, torch.ones_like(playing)).observation
    rows = playing.squeeze(1)
    assert torch.equal(after[rows], expected[rows])
    assert torch.equal(after[~rows], before[~rows])
    assert torch.equal(alone.full_observation[~rows], alone.tasks[START][~rows])


def test_frames_follow_the_pose() -> None:
    env = VisualMaze(8, size=3)
    env.set_seed(0)
    before = env.reset()[keys.OBSERVATION]
    turned = before
    for _ in range(16):
        action = torch.full((8,), TURN_LEFT)
        after = env.step(TensorDict({keys.ACTION: action}, [8]))[keys.NEXT]
        assert not torch.equal(after[keys.OBSERVATION], turned)
        turned = after[keys.OBSERVATION]
    assert torch.equal(turned, before), "a whole turn"
    forward = torch.full((8,), FORWARD)
    after = env.step(TensorDict({keys.ACTION: forward}, [8]))[keys.NEXT]
    assert (after[keys.OBSERVATION] != before).any()


@pytest.mark.parametrize(
    ("field", "told"),
    [
        ({"size": 0}, "^env.size=0 is out of range: set it to at least 2$"),
        ({"size": 1}, "^env.size=1 "),
        ({"horizon": 0}, "^env.horizon=0 is out of range: set it to at least 1$"),
        (
            {"num_training_mazes": 0},
            "^env.num_training_mazes=0 is out of range: set it to at least 1$",
        ),
    ],
)
def test_mazes_that_make_no_sense(field: dict[str, int], told: str) -> None:
    with pytest.raises(UserError, match=told):
        VisualMaze(3, **field)
