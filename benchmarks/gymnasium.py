"""Env steps per second of Gymnasium environments as a family, beside Gymnasium's own.

Random actions, in turns with Gymnasium's vector environments of as many environments on the same
machine: `SyncVectorEnv` beside this process, `AsyncVectorEnv` beside worker processes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from rl2_lightning.families.execution import Execution, num_cores
from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv

PAIRS = {"batched": "sync", "vector": "sync", "process": "async"}
# Within one process, the time of the processor; it does not pass while other programs run.
CLOCKS = {"batched": time.process_time, "vector": time.process_time, "process": time.perf_counter}
FOREVER = 10**9


class Own:
    """The family, in one of its backends.

    Args:
        env_id: the environment.
        backend: where it is played.
        num_envs: B.
        in_trials: whether trials are played, or the family alone.
    """

    def __init__(self, env_id: str, backend: str, num_envs: int, *, in_trials: bool) -> None:
        execution = Execution(backend, min(num_cores(), num_envs))
        # As a seed, a task would make a generator in each episode, which theirs does not.
        task = {"task_by": "options", "tasks": 2}
        self._env = GymnasiumTasks(num_envs, execution=execution, id=env_id, **task)
        self._trials = TrialEnv(self._env, steps_per_trial=FOREVER)
        self._everywhere = torch.ones(num_envs, 1, dtype=torch.bool)
        self._trials.begin()
        self.step = self._trials.advance if in_trials else self._step
        self.close = self._env.close

    def draw(self, num_steps: int) -> list[Any]:
        """Random actions of some steps."""
        return [self._env.action_spec.rand() for _ in range(num_steps)]

    def _step(self, action: Tensor) -> None:
        self._env.start_episodes(self._env.play(action, self._everywhere).episode_done)


class Theirs:
    """Gymnasium's vector environment, which resets an environment in the step that ends an episode.

    Args:
        env_id: the environment.
        mode: "sync" or "async".
        num_envs: B.
    """

    def __init__(self, env_id: str, mode: str, num_envs: int) -> None:
        options: dict[str, Any] = {"autoreset_mode": AutoresetMode.SAME_STEP}
        if mode == "async":
            options["context"] = "fork"  # spawned, each of its processes would import torch
        self._env = gymnasium.make_vec(
            env_id, num_envs=num_envs, vectorization_mode=mode, vector_kwargs=options
        )
        self._env.reset(seed=0)
        self.step = self._env.step
        self.close = self._env.close

    def draw(self, num_steps: int) -> list[Any]:
        """Random actions of some steps."""
        return [self._env.action_space.sample() for _ in range(num_steps)]


def seconds_for(
    step: Callable[[Any], Any], actions: Sequence[Any], clock: Callable[[], float]
) -> float:
    """How long it takes to play some actions, in seconds of a clock."""
    start = clock()
    for action in actions:
        step(action)
    return clock() - start


def compare(
    env_id: str, backend: str, num_envs: int, num_steps: int, repetitions: int
) -> list[float]:
    """Env steps per second of the family, of trials of it, and of Gymnasium.

    They take turns, and the best turn of each counts, the one that other programs disturbed least.
    """
    theirs = Theirs(env_id, PAIRS[backend], num_envs)  # forked before there are workers
    players = [
        Own(env_id, backend, num_envs, in_trials=False),
        Own(env_id, backend, num_envs, in_trials=True),
        theirs,
    ]
    try:
        turns = [
            [
                seconds_for(player.step, player.draw(num_steps), CLOCKS[backend])
                for player in players
            ]
            for _ in range(1 + repetitions)
        ]
    finally:
        for player in players:
            player.close()
    return [num_envs * num_steps / min(times) for times in zip(*turns[1:], strict=True)]


def main() -> None:
    """Print one line for each backend and number of environments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--id", default="CartPole-v1")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--num-processes-envs", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--backends", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--env-steps", type=int, default=2_000)
    parser.add_argument("--repetitions", type=int, default=40)
    given = parser.parse_args()
    print(f"{'backend':8} {'envs':>5} {'family/s':>9} {'trials/s':>9} {'Gymnasium/s':>12} share")
    for backend in given.backends:
        sizes = given.num_processes_envs if PAIRS[backend] == "async" else given.num_envs
        for num_envs in sizes:
            steps = -(-given.env_steps // num_envs)
            rates = compare(given.id, backend, num_envs, steps, given.repetitions)
            family, trials, theirs = rates
            share = family / theirs
            print(
                f"{backend:8} {num_envs:5} {family:9.0f} {trials:9.0f} {theirs:12.0f} {share:.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
