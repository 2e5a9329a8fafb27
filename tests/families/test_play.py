"""The loop that plays trials gives the trials of TorchRL, with agents and reference players."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.data import Categorical, Composite, Unbounded
from torchrl.envs import check_env_specs
from torchrl.envs.utils import step_mdp

from rl2_lightning import keys
from rl2_lightning.families.play import ReferenceActor, play, play_reference_trials
from rl2_lightning.families.player import Player
from rl2_lightning.families.task_env import TaskEnv, Transition
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.families.two_step import TwoStep
from rl2_lightning.inputs import Inputs
from tests.corridor import Corridor
from tests.families.catalogue import NAMES, read_family
from tests.families.draws import draw_actions, seeded
from tests.locks import Lock

NUM_TRIALS = 6
TRIALS = [
    {"episodes_per_trial": 2},
    {"steps_per_trial": 7, "expected_rewards": True},
    {"steps_per_trial": 7, "continues": True},
]


STORED = {
    keys.OBSERVATION,
    keys.PREVIOUS_OBSERVATION,
    keys.PREVIOUS_ACTION,
    keys.PREVIOUS_REWARD,
    keys.PREVIOUS_DONE,
    keys.EPISODE,
    keys.ELAPSED,
    keys.IS_INIT,
    keys.MASK,
    keys.ACTION,
    keys.NEXT,
}


class Scripted:
    """Takes actions `[T, B]` or `[T, B, A]`; its state is the number of the step."""

    def __init__(self, actions: Tensor) -> None:
        self.actions = actions

    def start(self, env: TrialEnv) -> int:
        return 0

    def act(self, inputs: Inputs, state: int) -> tuple[Tensor, int, Mapping[str, Tensor]]:
        action = self.actions[state % len(self.actions)]
        return action, state + 1, {"number": torch.full(inputs.previous_done.shape, state)}

    def tensors(self, state: int) -> tuple[Tensor, ...]:
        return (torch.full((self.actions.shape[1], 3), state),)


class Walk(TaskEnv):
    """A walk to the left or right, with place and distance as separate observations."""

    def __init__(self, num_tasks: int, device: torch.device | str = "cpu") -> None:
        shown = Composite({"place": Unbounded((2,)), "distance": Unbounded(())})
        super().__init__(
            num_tasks,
            observation_spec=shown,
            action_spec=Categorical(2),
            max_episode_steps=2,
            device=device,
        )
        self._place = torch.zeros(num_tasks, 2, device=self.device)

    def sample_tasks(self, num_tasks: int) -> TensorDict:
        length = torch.rand(num_tasks, 1, generator=self.generator, device=self.device)
        return TensorDict({"length": length}, [num_tasks], self.device)

    def begin_episodes(self, rows: Tensor) -> dict[str, Tensor]:
        self._place = torch.where(rows, self.tasks["length"].expand(-1, 2), self._place)
        return self._shown()

    def advance(self, action: Tensor, playing: Tensor) -> tuple[dict[str, Tensor], Tensor, Tensor]:
        step = (2 * action.unsqueeze(1) - 1) * self.tasks["length"] * playing
        self._place = self._place + torch.cat((step, torch.zeros_like(step)), 1)
        return self._shown(), self._place[:, :1], torch.zeros_like(playing)

    def _shown(self) -> dict[str, Tensor]:
        return {"place": self._place, "distance": self._place.norm(dim=1)}


def make_task_env(name: str) -> TaskEnv:
    """A family, with short episodes where these can be set."""
    if name == "composite":
        return Walk(NUM_TRIALS)
    if name == "several actions":
        return Lock(NUM_TRIALS)
    family, settings = read_family(name)
    return family(NUM_TRIALS, **(settings | {"horizon": 12} if "horizon" in settings else settings))


def collect(env: TrialEnv, actions: Tensor) -> TensorDictBase:
    """Trials stepped by TorchRL, `[B, T]`; ended ones idle."""
    state, steps = env.reset(), []
    for action in actions:
        step = env.step(state.set(keys.ACTION, action))
        steps.append(step)
        state = step_mdp(step)
    return torch.stack(steps, dim=1)


@pytest.fixture(params=[*NAMES, "composite", "several actions"])
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("options", TRIALS)
def test_play_equals_the_collector(name: str, options: dict[str, Any]) -> None:
    env = TrialEnv(make_task_env(name), **options)
    actions = draw_actions(env, env.max_steps)
    env.set_seed(3)
    trials = play(Scripted(actions), env)
    assert (trials[keys.TASK] == env.tasks).all()
    env.set_seed(3)
    collected = collect(env, actions)
    steps = trials[keys.STEPS].exclude("number")
    assert set(steps.keys()) == STORED
    ends = {keys.REWARD, keys.DONE, keys.TERMINATED, keys.EPISODE_DONE}
    assert {(keys.NEXT, entry) for entry in steps[keys.NEXT].keys()} == ends  # noqa: SIM118
    for entry in steps.keys(include_nested=True, leaves_only=True):
        assert steps[entry].dtype == collected[entry].dtype
        assert torch.equal(steps[entry], collected[entry]), entry


def test_positions_are_stored_where_they_are_watched() -> None:
    env = TrialEnv(Corridor(NUM_TRIALS), episodes_per_trial=2, shows_position=True)
    actions = draw_actions(env, env.max_steps)
    env.set_seed(3)
    reached = play(Scripted(actions), env)[keys.STEPS][keys.REACHED]
    env.set_seed(3)
    assert torch.equal(reached, collect(env, actions)[keys.REACHED])


@pytest.mark.parametrize("options", TRIALS)
def test_the_last_observation_of_an_episode_is_where_it_led(
    name: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    env = TrialEnv(make_task_env(name), **options)
    played, shown = env.task_env.play, []

    def watch(action: Tensor, playing: Tensor) -> Transition:
        transition = played(action, playing)
        shown.append(TensorDict({keys.OBSERVATION: transition.observation}, [NUM_TRIALS]).clone())
        return transition

    monkeypatch.setattr(env.task_env, "play", watch)
    trials = play(Scripted(draw_actions(env, env.max_steps)), env)
    steps, reached = trials[keys.STEPS], torch.stack(shown, 1)
    last = TensorDict({keys.OBSERVATION: trials[keys.LAST_OBSERVATION]}, [NUM_TRIALS])
    for trial in range(NUM_TRIALS):
        for episode in range(env.max_episodes):
            of_episode = steps[keys.MASK][trial] & (steps[keys.EPISODE][trial] == episode)
            numbers = of_episode.flatten().nonzero()
            entry = last[trial].apply(lambda e, at=episode: e[at])
            if len(numbers):
                assert (entry == reached[trial, int(numbers[-1])]).all()
            else:
                assert (entry == 0).all(), "the trial did not reach the episode"


def test_an_idle_row_stays_as_it_is(name: str) -> None:
    env = TrialEnv(make_task_env(name), steps_per_trial=3)
    actions = draw_actions(env, 6)
    steps = play(Scripted(actions), env, num_extra_steps=3)[keys.STEPS]
    assert steps.batch_size == (NUM_TRIALS, 6)
    assert steps[keys.MASK][:, :3].all()
    assert not steps[keys.MASK][:, 3:].any()
    assert not steps[keys.REWARD][:, 3:].any()
    assert not steps[keys.EPISODE_DONE][:, 3:].any()
    first_idle, *idle = steps.select(keys.OBSERVATION)[:, 3:].unbind(1)
    assert all((step == first_idle).all() for step in idle)


def test_what_is_shown_may_consist_of_several_tensors() -> None:
    env = TrialEnv(Walk(NUM_TRIALS), episodes_per_trial=2)
    check_env_specs(env)
    steps = play(Scripted(torch.ones(4, NUM_TRIALS, dtype=torch.int64)), env)[keys.STEPS]
    length = env.tasks["length"]
    distance = steps[keys.OBSERVATION, "distance"] / length
    expected = torch.tensor([2.0, 5.0, 2.0, 5.0]).sqrt().expand(NUM_TRIALS, 4)
    torch.testing.assert_close(distance, expected)
    before = steps[keys.PREVIOUS_OBSERVATION, "place"]
    assert not before[:, 0].any()
    assert torch.equal(before[:, 1:], steps[keys.OBSERVATION, "place"][:, :-1])


def test_only_what_is_wanted_is_kept() -> None:
    env = TrialEnv(Corridor(NUM_TRIALS), episodes_per_trial=2)
    actor = Scripted(draw_actions(env, env.max_steps))
    trials = play(actor, env, kept={keys.REWARD, "number", keys.OBSERVATION})
    assert set(trials.keys()) == {keys.STEPS, keys.TASK}
    steps = trials[keys.STEPS]
    assert set(steps.keys()) == {keys.NEXT, "number", keys.OBSERVATION}
    assert set(steps[keys.NEXT].keys()) == {keys.STEP_REWARD}
    assert steps["number"][0].flatten().tolist() == list(range(10))


def test_states_are_kept_before_the_steps_that_are_named() -> None:
    env = TrialEnv(Corridor(NUM_TRIALS), episodes_per_trial=2)
    trials = play(Scripted(draw_actions(env, 10)), env, state_steps=(0, 4, 9))
    (states,) = trials[keys.MEMORY_STATE].values()
    assert torch.equal(states[..., 0], torch.tensor([0, 4, 9]).expand(NUM_TRIALS, 3))


def test_given_tasks_are_played() -> None:
    env = TrialEnv(Corridor(2), episodes_per_trial=1)
    tasks = TensorDict({"goal": torch.tensor([[2.0], [4.0]])}, [2])
    trials = play(Scripted(torch.ones(5, 2, dtype=torch.int64)), env, tasks)
    assert (trials[keys.TASK] == tasks).all()
    assert trials[keys.LAST_OBSERVATION].flatten().tolist() == [2, 4]


class Watcher(Player):
    """Walks on, and records all its inputs."""

    def __init__(self, privileged: bool) -> None:
        self.privileged = privileged
        self.is_prepared = False

    def prepare(self) -> None:
        self.is_prepared = True

    def start(self, tasks: TensorDictBase) -> list[Inputs]:
        self.tasks = tasks
        return []

    def choose(self, memory: list[Inputs], observation: Tensor, generator: torch.Generator):
        self.observation, self.memory = observation, memory
        return torch.ones(len(self.tasks), dtype=torch.int64)

    def learn(self, memory: list[Inputs], observation: Tensor, inputs: Inputs) -> list[Inputs]:
        assert torch.equal(observation, self.observation)
        return [*memory, inputs]


class Mirrored(Corridor):
    """Shows privileged players the way to the goal."""

    @property
    def full_observation(self) -> Tensor:
        return self.tasks["goal"] - self.place


@pytest.mark.parametrize("privileged", [False, True])
def test_a_player_is_shown_what_an_agent_is_and_a_privileged_one_all(privileged: bool) -> None:
    player = Watcher(privileged)
    env = TrialEnv(Mirrored(2), episodes_per_trial=2)
    tasks = TensorDict({"goal": torch.tensor([[1.0], [2.0]])}, [2])
    steps = play(ReferenceActor(player, seeded(0)), env, tasks)[keys.STEPS]
    assert player.tasks.batch_size == (2,)
    assert list(player.tasks.keys()) == (["goal"] if privileged else [])
    shown = [inputs.observation.flatten().tolist() for inputs in player.memory[:3]]
    assert shown == ([[1, 1], [0, 2], [0, 1]] if privileged else [[0, 1], [1, 0], [1, 1]])
    for number, inputs in enumerate(player.memory, start=1):
        for entry in ("previous_action", "previous_reward", "previous_done"):
            assert torch.equal(getattr(inputs, entry), steps[entry][:, number])


def test_trials_of_a_player_hold_what_an_evaluation_keeps() -> None:
    player = Watcher(privileged=False)
    tasks = TwoStep(1).sample_tasks(4)
    trials = play_reference_trials(player, TwoStep(4), tasks, 3, seeded(0))
    assert player.is_prepared
    assert trials.batch_size == (4, 6)
    kept = set(trials.keys(include_nested=True, leaves_only=True))
    assert kept == {keys.OBSERVATION, keys.ACTION, keys.REWARD, keys.EPISODE, keys.MASK}
