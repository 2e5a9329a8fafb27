"""Env steps per second of Gymnasium environments as a family, beside Gymnasium's own.

Random actions, in turns with Gymnasium's vector environments of as many environments on the same
machine: `SyncVectorEnv` beside this process, `AsyncVectorEnv` beside worker processes.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import torch
from gymnasium.vector import AutoresetMode
from torch import Tensor

from rl2_lightning.families.execution import Execution, num_cores
from rl2_lightning.families.gymnasium import GymnasiumTasks
from rl2_lightning.families.trial_env import TrialEnv

PAIRS = {"batched": "sync", "vector": "sync", "process": "async"}
# Within one process, the time of the processor does not depend on what else the machine does.
CLOCKS = {"batched": time.process_time, "vector": time.process_time, "process": time.perf_counter}
WARM_UP = 10  # steps before the clock starts
FOREVER = 10**9


def rate_of(step: Callable[[Any], None], actions: Any, clock: Callable[[], float]) -> float:
    """Env steps per second of a function that steps all environments.

    Args:
        step: the function.
        actions: drawn beforehand, `[T, B, ...]`.
        clock: the time, in seconds.
    """
    for action in actions[:WARM_UP]:
        step(action)
    start = clock()
    for action in actions:
        step(action)
    return len(actions) * len(actions[0]) / (clock() - start)


def own_rate(
    env_id: str, backend: str, num_envs: int, num_steps: int, *, in_trials: bool = False
) -> float:
    """Env steps per second of the family; with `in_trials`, of trials of it."""
    env = GymnasiumTasks(num_envs, execution=Execution(backend, num_cores()), id=env_id)
    trials = TrialEnv(env, steps_per_trial=FOREVER)
    everywhere = torch.ones(num_envs, 1, dtype=torch.bool)
    actions = torch.stack([env.action_spec.rand() for _ in range(num_steps)])
    trials.begin()

    def step(action: Tensor) -> None:
        env.start_episodes(env.play(action, everywhere).episode_done)

    try:
        return rate_of(trials.advance if in_trials else step, actions, CLOCKS[backend])
    finally:
        env.close()


def gymnasium_rate(env_id: str, backend: str, num_envs: int, num_steps: int) -> float:
    """Env steps per second of Gymnasium's vector environment."""
    env = gymnasium.make_vec(
        env_id,
        num_envs=num_envs,
        vectorization_mode=PAIRS[backend],
        vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP},
    )
    actions = [env.action_space.sample() for _ in range(num_steps)]
    env.reset(seed=0)
    try:
        return rate_of(env.step, actions, CLOCKS[backend])
    finally:
        env.close()


def compare(
    env_id: str, backend: str, num_envs: int, num_steps: int, repetitions: int
) -> tuple[float, float, float]:
    """Medians over repetitions in turns: the family's rate, that of trials, and Gymnasium's."""
    own = partial(own_rate, env_id, backend, num_envs, num_steps)
    measured = [
        (own(), own(in_trials=True), gymnasium_rate(env_id, backend, num_envs, num_steps))
        for _ in range(repetitions)
    ]
    family, trials, theirs = (statistics.median(rates) for rates in zip(*measured, strict=True))
    return family, trials, theirs


def main() -> None:
    """Print one line for each backend and number of environments."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--id", default="CartPole-v1")
    parser.add_argument("--num-envs", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--num-processes-envs", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--backends", nargs="+", default=list(PAIRS), choices=list(PAIRS))
    parser.add_argument("--env-steps", type=int, default=20_000)
    parser.add_argument("--repetitions", type=int, default=5)
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
