"""The loop that plays trials: for collecting, for evaluation, and for reference players."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.families.player import ClosedFormPlayer, Player
from rl2_lightning.families.record import Name, Record
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.inputs import Inputs, Observation
from rl2_lightning.progress import track_slow

State = tuple[Tensor, ...]
RETURNS = (keys.REWARD, keys.EPISODE, keys.MASK)  # entries needed for the returns of episodes


class Actor(Protocol):
    """Anything that plays: an agent, or a reference player with its generator."""

    def start(self, env: TrialEnv) -> Any:
        """The state at the start of B trials."""

    def act(self, inputs: Inputs, state: Any) -> tuple[Tensor, Any, Mapping[Name, Tensor]]:
        """Choose actions; return them, the next state, and other entries to store."""

    def tensors(self, state: Any) -> State:
        """The tensors `[B, ...]` of a state."""


class ReferenceActor:
    """Acts with a reference player.

    Args:
        player: the player.
        generator: source of all its randomness, on the device of the tasks.
    """

    def __init__(self, player: Player, generator: torch.Generator) -> None:
        self._player = player
        self._generator = generator
        self._env: TrialEnv

    def start(self, env: TrialEnv) -> tuple[Any, Observation | None]:
        """See `Actor.start`."""
        self._env = env
        tasks = env.tasks if self._player.privileged else env.tasks.select()
        return self._player.start(tasks), None

    def act(
        self, inputs: Inputs, state: tuple[Any, Observation | None]
    ) -> tuple[Tensor, tuple[Any, Observation], Mapping[Name, Tensor]]:
        """See `Actor.act`."""
        memory, before = state
        if self._player.privileged:
            shown = self._env.task_env.full_observation
            inputs = inputs if shown is None else inputs._replace(observation=shown)
        if before is not None:
            memory = self._player.learn(memory, before, inputs)
        action = self._player.choose(memory, inputs.observation, self._generator)
        return action, (memory, inputs.observation), {}

    def tensors(self, state: Any) -> State:
        """See `Actor.tensors`; nothing is stored."""
        return ()


@torch.no_grad()
def play(
    actor: Actor,
    env: TrialEnv,
    tasks: TensorDictBase | None = None,
    *,
    kept: Collection[Any] | None = None,
    state_steps: Sequence[int] = (),
    num_extra_steps: int = 0,
    progress: str | None = None,
) -> TensorDict:
    """Play one trial of every task.

    Args:
        actor: the actor that plays.
        env: environment of B trials.
        tasks: parameters of the tasks, `[B]`; None to draw tasks to train on.
        kept: the entries of a step to store, by the names of `keys`; None for all and the last
            observations of the episodes.
        state_steps: steps before which the actor's state is stored.
        num_extra_steps: steps played beyond the longest trial.
        progress: description of a progress bar, shown if it takes long; None for none.

    Returns:
        Trials, `[B]`: their `steps`, `[B, T]`, time-major in memory; the parameters of the `task`;
        under `memory_state` the states, `[B, len(state_steps)]`; and `last_observation`,
        `[B, E, *observation]`, the last observation of each episode.
    """
    num_steps = env.max_steps + num_extra_steps
    step = env.begin(tasks)
    state = actor.start(env)
    record = Record(env, step, num_steps, kept)
    states: list[State] = []
    times_kept = Counter(state_steps)
    for index in range(num_steps) if progress is None else track_slow(range(num_steps), progress):
        states += [actor.tensors(state)] * times_kept[index]
        record.add_step(index, step)
        action, state, extra = actor.act(step.inputs, state)
        result = env.advance(action)
        record.add_result(index, step, {keys.ACTION: action, **extra}, result)
        step = result.following
    return record.trials(states)


def play_reference(
    player: Player | ClosedFormPlayer,
    task_env: TaskEnv,
    tasks: TensorDictBase,
    num_episodes: int,
    generator: torch.Generator,
) -> Tensor:
    """Let a reference player play one trial of every task.

    Args:
        player: the player.
        task_env: an environment of the family with B tasks.
        tasks: parameters of the tasks, `[B]`.
        num_episodes: E, length of each trial, in episodes.
        generator: source of all randomness, on the device of the tasks.

    Returns:
        Return of every episode, `[B, E]`, float32, in units of reward.
    """
    if isinstance(player, ClosedFormPlayer):
        return player.returns(tasks, num_episodes, generator)
    trials = play_reference_trials(player, task_env, tasks, num_episodes, generator)
    return episode_returns(trials, num_episodes)[0]


def play_reference_trials(
    player: Player,
    task_env: TaskEnv,
    tasks: TensorDictBase,
    num_episodes: int,
    generator: torch.Generator,
) -> TensorDictBase:
    """Like `play_reference`, but return the steps `[B, T]` that an evaluation records."""
    player.prepare()
    seed = torch.randint(2**62, (1,), generator=generator, device=generator.device)
    task_env.set_seed(int(seed))
    env = TrialEnv(task_env, episodes_per_trial=num_episodes)
    kept = {*RETURNS, *task_env.recorded_keys}
    actor = ReferenceActor(player, generator)
    words = f"playing {type(player).__name__}"
    task_env.is_watched = player.looks
    try:
        return play(actor, env, tasks, kept=kept, progress=words)[keys.STEPS]
    finally:
        task_env.is_watched = True


def episode_returns(steps: TensorDictBase, num_episodes: int) -> tuple[Tensor, Tensor]:
    """Sum the rewards of each episode of each trial.

    Args:
        steps: B trials of T steps, `[B, T]`, with the reward (float), the index of the episode
            in its trial (int64) and the mask (bool), each `[B, T, 1]`; a step whose mask is false
            is ignored, whatever its values.
        num_episodes: E, maximum number of episodes of a trial.

    Returns:
        The undiscounted returns, `[B, E]`, float32, zero where the trial did not reach the
        episode; and whether it reached it, `[B, E]`, bool.

    Raises:
        ValueError: a step that counts belongs to an episode beyond `num_episodes`.
    """
    mask = steps[keys.MASK].squeeze(-1)
    rewards = steps[keys.REWARD].squeeze(-1).float().masked_fill(~mask, 0.0)
    episodes = steps[keys.EPISODE].squeeze(-1).masked_fill(~mask, 0)
    if episodes.numel() and int(episodes.max()) >= num_episodes:
        raise ValueError(
            f"a trial has {int(episodes.max()) + 1} episodes, but num_episodes is "
            f"{num_episodes}; give the maximum number of episodes of a trial"
        )
    nothing = rewards.new_zeros(rewards.shape[0], num_episodes)
    returns = nothing.scatter_add(1, episodes, rewards)
    num_steps = nothing.scatter_add(1, episodes, mask.float())
    return returns, num_steps > 0
