"""The interface of a family of tasks, tested on every family."""

from collections.abc import Callable
from dataclasses import fields
from functools import partial

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs import check_env_specs

from rl2_lightning import keys
from rl2_lightning.errors import UserError
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.settings import make_settings
from tests.corridor import Corridor
from tests.families.catalogue import NAMES, make_family, read_family
from tests.families.draws import draw_actions


def rows(*numbers: int, num_tasks: int = 4) -> torch.Tensor:
    mask = torch.zeros(num_tasks, 1, dtype=torch.bool)
    mask[list(numbers)] = True
    return mask


def partial_reset(
    env: TaskEnv, state: TensorDict, mask: torch.Tensor, tasks: TensorDict | None = None
) -> TensorDict:
    request = state.clone().set("_reset", mask)
    return env.reset(request if tasks is None else request.set(keys.TASK, tasks))


def step(env: TaskEnv, action: torch.Tensor) -> TensorDict:
    request = TensorDict({keys.ACTION: action}, batch_size=env.batch_size)
    return env.step(request)[keys.NEXT]


@pytest.fixture(params=NAMES)
def family(request: pytest.FixtureRequest) -> Callable[[int], TaskEnv]:
    return partial(make_family, request.param)


def test_specs_are_exact(family: Callable[[int], TaskEnv]) -> None:
    check_env_specs(family(4), seed=0)


def test_same_seed_same_tasks_and_same_play(family: Callable[[int], TaskEnv]) -> None:
    def play(seed: int) -> tuple[TensorDict, TensorDict]:
        env = family(50)
        env.set_seed(seed)
        env.reset()
        played = [step(env, action) for action in draw_actions(env, 5)]
        return env.tasks, torch.stack(played, dim=1)

    (tasks, played), (same_tasks, same_play) = play(3), play(3)
    assert (tasks == same_tasks).all()
    assert (played == same_play).all()
    other_tasks, _ = play(4)
    assert not (tasks == other_tasks).all()


def test_a_family_tells_whether_episodes_end_early(family: Callable[[int], TaskEnv]) -> None:
    env = family(50)
    env.set_seed(0)
    state, early = env.reset(), False
    for action in draw_actions(env, min(env.max_episode_steps, 60) - 1):
        state = step(env, action)
        early = bool(state[keys.TRIAL_DONE].any())
        if early:
            break  # steps beyond the end are not defined everywhere
    assert early == env.ends_early


@pytest.mark.parametrize("name", NAMES)
def test_the_config_gives_every_setting_its_default(name: str) -> None:
    family, settings = read_family(name)
    assert set(settings) == {field.name for field in fields(family.Settings)}
    assert make_settings(family.Settings, settings) == family.Settings()


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_setting_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"^unknown config key 'env\.nonsense'"):
        read_family(name)[0](2, nonsense=1)


@pytest.mark.parametrize("name", [name for name in NAMES if "horizon" in read_family(name)[1]])
def test_an_episode_needs_a_step(name: str) -> None:
    with pytest.raises(UserError, match=r"^env\.horizon=0 is out of range: set it to at least 1$"):
        read_family(name)[0](2, horizon=0)


def look(env: TaskEnv, action: torch.Tensor) -> list[torch.Tensor]:
    """All observable tensors of the tasks, `[B, ...]` each."""
    seen = [env.begin_episodes(rows(num_tasks=env.num_tasks)), env.full_observation]
    seen.append(env.expected_reward(action))
    if env.scene(env.tasks[0]) is not None:
        seen.append(env.position)
    return [entry.clone() for entry in seen if entry is not None]


def test_an_idle_row_stays_as_it_is(family: Callable[[int], TaskEnv]) -> None:
    env = family(20)
    env.set_seed(0)
    env.reset()
    playing = rows(*range(0, 20, 2), num_tasks=20)
    idle = ~playing.squeeze(1)
    action, *actions = draw_actions(env, 6)
    for other in actions[:2]:
        env.play(other, torch.ones_like(playing))
    before, steps = look(env, action), env.episode_steps.clone()
    for other in actions[2:]:
        env.play(other, playing)
    assert torch.equal(env.episode_steps[idle], steps[idle])
    for was, found in zip(before, look(env, action), strict=True):
        assert torch.equal(was[idle], found[idle])


def test_reset_samples_new_tasks(family: Callable[[int], TaskEnv]) -> None:
    env = family(50)
    env.reset()
    first = env.tasks.clone()
    env.reset()
    assert not (env.tasks == first).all()


def test_reset_takes_the_tasks_that_it_is_given(family: Callable[[int], TaskEnv]) -> None:
    env = family(4)
    tasks = family(4).sample_tasks(4)
    env.reset(TensorDict({keys.TASK: tasks}, batch_size=[4]))
    assert (env.tasks == tasks).all()


def test_reset_keeps_tasks_and_episodes_of_the_other_rows() -> None:
    env = Corridor(4)
    env.reset(TensorDict({keys.TASK: TensorDict({"goal": torch.full((4, 1), 4.0)}, [4])}, [4]))
    state = step(env, torch.ones(4, dtype=torch.int64))
    given = TensorDict({"goal": torch.full((4, 1), 2.0)}, [4])
    started = partial_reset(env, state, rows(1, 3), given)
    assert env.tasks["goal"].flatten().tolist() == [4, 2, 4, 2]
    assert env.episode_steps.flatten().tolist() == [1, 0, 1, 0]
    assert started[keys.OBSERVATION].flatten().tolist() == [1, 0, 1, 0]
    reached = step(env, torch.ones(4, dtype=torch.int64))
    assert reached[keys.OBSERVATION].flatten().tolist() == [2, 1, 2, 1]


def test_reset_samples_only_for_the_rows_that_are_reset(family: Callable[[int], TaskEnv]) -> None:
    # Many, since a family with few tasks may draw the same one again.
    env = family(50)
    state = env.reset()
    before = env.tasks.clone()
    partial_reset(env, state, rows(*range(40), num_tasks=50))
    assert (env.tasks[40:] == before[40:]).all()
    assert (env.tasks[:40] != before[:40]).any()


@pytest.mark.parametrize("number", [1, 3, 5])
def test_wrong_number_of_tasks_is_refused(family: Callable[[int], TaskEnv], number: int) -> None:
    env = family(4)
    tasks = env.sample_tasks(number)
    with pytest.raises(UserError, match=rf"plays 4 tasks at once, but was given .*{number}"):
        env.set_tasks(tasks, rows(0, 1, 2, 3))


def test_episode_ends_where_the_task_says_or_out_of_steps() -> None:
    env = Corridor(2)
    env.reset(TensorDict({keys.TASK: TensorDict({"goal": torch.tensor([[2.0], [4.0]])}, [2])}, [2]))
    walk = [torch.tensor([1, 0])] * 2 + [torch.tensor([0, 0])] * 3
    played = torch.stack([step(env, action) for action in walk], dim=1)
    assert played["terminated"].squeeze(-1).long().tolist() == [[0, 1, 1, 1, 1], [0] * 5]
    assert played["truncated"].squeeze(-1).long().tolist() == [[0] * 5, [0, 0, 0, 0, 1]]
    assert played["done"].squeeze(-1).long().tolist() == [[0, 1, 1, 1, 1], [0, 0, 0, 0, 1]]


def test_a_family_in_the_plane_stays_on_its_map(family: Callable[[int], TaskEnv]) -> None:
    env = family(20)
    env.set_seed(0)
    env.reset()
    scenes = [env.scene(task) for task in env.tasks]
    if None in scenes:
        pytest.skip("not played in the plane")
    low, high = (torch.tensor([getattr(scene, at) for scene in scenes]) for at in ("low", "high"))
    starts = torch.tensor([scene.start for scene in scenes if scene])
    goals = torch.tensor([scene.goal for scene in scenes if scene])
    torch.testing.assert_close(env.position, starts.float())
    assert (low <= goals).all()
    assert (goals <= high).all()
    for _ in range(env.max_episode_steps):
        env.rand_step()
        assert (low <= env.position).all()
        assert (env.position <= high).all()
