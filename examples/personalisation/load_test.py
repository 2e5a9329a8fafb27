"""Simulated users of the service: `python -m examples.personalisation.load_test ckpt_path=...`.

Each user is a bandit whose arms pay with probabilities drawn from U[0, 1]. Decisions come at random
times of a fixed rate, whether or not the service keeps up (open loop), and the time of an answer
counts from when the request was due.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich import get_console
from rich.progress import Progress
from rich.table import Table

from examples.personalisation.client import Client
from examples.personalisation.settings import choice_of, number_of
from examples.personalisation.store import SYNCHRONOUS
from rl2_lightning.arguments import REQUIRED, read_arguments
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.console import print_table
from rl2_lightning.errors import UserError
from rl2_lightning.run_folder import checkpoint_in

ARGUMENTS = {
    "ckpt_path": REQUIRED,  # a checkpoint, or the folder of a run
    "users": 10_000,
    "decisions": 10,  # for each user
    "rate": 500,  # decisions per second
    "reward_after": 1.0,  # seconds from a decision to its reward
    "core": "",  # the core that the service has to itself; empty for any
    "synchronous": "normal",  # of the service
    "seed": 1,  # of arms, rewards and times
}
AT_ONCE = 64  # users who are added
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


class Load(NamedTuple):
    """What the users do.

    Attributes:
        arms: probabilities of the arms of each user, `[U, K]`.
        luck: uniform numbers: a pull pays where its number is below the arm's, `[T, U]`.
        due: when decisions are asked for, in seconds from the start, `[T, U]`.
        reward_after: seconds from a decision to its reward.
    """

    arms: Array
    luck: Array
    due: Array
    reward_after: float


class Outcome(NamedTuple):
    """What has become of a load; `[T, U]` each.

    Attributes:
        rewards: of the decisions.
        chances: the probability that the chosen arm pays.
        act_seconds: from when a decision was due until its answer.
        observe_seconds: from when a reward was due until it was acknowledged.
    """

    rewards: Array
    chances: Array
    act_seconds: Array
    observe_seconds: Array


def draw_load(
    num_users: int, num_decisions: int, num_arms: int, rate: float, reward_after: float, seed: int
) -> Load:
    """Draw users and times: a Poisson process, in which users come in turns."""
    numbers = np.random.default_rng(seed)
    arms = numbers.random((num_users, num_arms))
    luck = numbers.random((num_decisions, num_users))
    gaps = numbers.exponential(1 / rate, num_decisions * num_users)
    return Load(arms, luck, np.cumsum(gaps).reshape(luck.shape), reward_after)


def require_time_for_rewards(load: Load) -> None:
    """Check that no user comes back before the reward of the last decision is due.

    Raises:
        UserError: one does.
    """
    shortest = np.diff(load.due, axis=0).min(initial=np.inf)
    if shortest <= load.reward_after:
        raise UserError(
            f"reward_after={load.reward_after:g}: a user comes back after {shortest:.2g} s, before "
            "the reward of the last decision; give more users, a lower rate or a shorter time"
        )


async def play(client: Client, load: Load) -> Outcome:
    """Play a load, each request at its time."""
    num_decisions, num_users = load.due.shape
    outcome = Outcome(*(np.full(load.due.shape, np.nan) for _ in Outcome._fields))
    start = time.perf_counter() + 0.1
    running: set[asyncio.Task[None]] = set()

    async def decide(pull: int, user: int) -> None:
        due = start + load.due[pull, user]
        answer = await client.act(f"user{user}")
        outcome.act_seconds[pull, user] = time.perf_counter() - due
        chance = load.arms[user, answer["action"]]
        reward = float(load.luck[pull, user] < chance)
        outcome.chances[pull, user], outcome.rewards[pull, user] = chance, reward
        due = max(due + load.reward_after, time.perf_counter())
        await asyncio.sleep(due - time.perf_counter())
        await client.observe(f"user{user}", answer["decision"], reward)
        outcome.observe_seconds[pull, user] = time.perf_counter() - due

    with Progress(console=get_console(), transient=True) as progress:
        shown = progress.add_task("decisions", total=load.due.size)
        for pull in range(num_decisions):
            for user in range(num_users):
                wait = start + load.due[pull, user] - time.perf_counter()
                if wait > 0:
                    await asyncio.sleep(wait)
                task = asyncio.create_task(decide(pull, user))
                running.add(task)
                task.add_done_callback(running.discard)
                progress.advance(shown)
        await asyncio.gather(*running)
    return outcome


async def add_users(client: Client, num_users: int) -> None:
    """Add the users, some at a time."""
    for first in range(0, num_users, AT_ONCE):
        some = range(first, min(first + AT_ONCE, num_users))
        await asyncio.gather(*(client.add(f"user{user}") for user in some))


@contextmanager
def running_service(checkpoint: str, folder: Path, synchronous: str, core: str) -> Iterator[str]:
    """A service in a process of its own, until it is told to stop; its URL.

    Raises:
        UserError: it has not started, or has failed at its end.
    """
    command = [sys.executable, "-m", "examples.personalisation", f"ckpt_path={checkpoint}"]
    command += [f"database={folder / 'users.db'}", "port=0", f"synchronous={synchronous}"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    if core:
        os.sched_setaffinity(process.pid, {int(core)})
    assert process.stdout is not None
    try:
        lines = []
        for line in process.stdout:
            lines.append(line.strip())
            if line.startswith("serving at "):
                yield line.split()[-1]
                break
        else:
            raise UserError(f"the service has not started: {' '.join(lines)}")
    finally:
        process.terminate()
        process.communicate()
    if process.returncode != 0:
        raise UserError(f"the service has ended with code {process.returncode}")


def leave_core(core: str) -> None:
    """Run this process on other cores than the service's.

    Raises:
        UserError: there is no such core, or no other one.
    """
    cores = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()
    if not core.isdecimal() or int(core) not in cores or len(cores) < 2:
        told = ", ".join(map(str, sorted(cores))) or "not to be chosen on this system"
        raise UserError(f"core={core}: the cores are {told}, and two are needed; leave it empty")
    os.sched_setaffinity(0, cores - {int(core)})


def print_report(load: Load, outcome: Outcome, cpu_seconds: float) -> None:
    """Print what the users have earned, and how long answers took."""
    num = load.due.size
    last = np.nanmax(load.due + outcome.act_seconds)
    milliseconds = Table("milliseconds", *("50 %", "99 %", "99.9 %", "most"))
    pairs = {"act": outcome.act_seconds, "observe": outcome.observe_seconds}
    for name, seconds in pairs.items():
        shown = np.percentile(seconds, [50, 99, 99.9, 100]) * 1000
        milliseconds.add_row(name, *(f"{one:.1f}" for one in shown))
    rewards = Table("pull", "mean reward", "a random arm", "the best arm")
    pulls = len(load.due)
    wanted = sorted({1, 2, 3, 5, 10, 20, 50, 100, pulls} & set(range(1, pulls + 1)))
    for pull in wanted:
        row = outcome.rewards[pull - 1]
        interval = 1.96 * row.std() / np.sqrt(len(row))
        rewards.add_row(
            str(pull),
            f"{row.mean():.3f} ± {interval:.3f}",
            f"{load.arms.mean():.3f}",
            f"{load.arms.max(1).mean():.3f}",
        )
    print_table(rewards)
    print_table(milliseconds)
    get_console().print(
        f"{num:,} decisions of {load.due.shape[1]:,} users, each with its reward: "
        f"{num / last:.0f} decisions per second, {1000 * cpu_seconds / num:.2f} ms of CPU "
        "time each",
        soft_wrap=True,
    )


async def drive(url: str, given: Mapping[str, str]) -> None:
    """Add users, play the load, and report."""
    num_users = int(number_of(given, "users", low=1))
    async with Client(url) as client:
        load = draw_load(
            num_users,
            int(number_of(given, "decisions", low=1)),
            (await client.health())["actions"],
            number_of(given, "rate", low=0.1),
            number_of(given, "reward_after", low=0),
            int(number_of(given, "seed", low=0)),
        )
        require_time_for_rewards(load)
        await add_users(client, num_users)
        before = (await client.health())["cpu_seconds"]
        outcome = await play(client, load)
        after = (await client.health())["cpu_seconds"]
    print_report(load, outcome, after - before)


async def count_kept(url: str, num_users: int, num_decisions: int) -> int:
    """The number of users who still have all of their decisions."""
    kept = 0
    async with Client(url) as client:
        for user in range(num_users):
            kept += (await client.show(f"user{user}"))["decisions"] == num_decisions
    return kept


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        given = read_arguments(sys.argv[1:], ARGUMENTS)
        checkpoint = checkpoint_in(given["ckpt_path"], "ckpt_path")
        synchronous = choice_of(given, "synchronous", SYNCHRONOUS)
        num_users = int(number_of(given, "users", low=1))
        if given["core"]:
            leave_core(given["core"])
        with tempfile.TemporaryDirectory() as name:
            service = (checkpoint, Path(name), synchronous, given["core"])
            with running_service(*service) as url:
                asyncio.run(drive(url, given))
            with running_service(*service) as url:
                num_decisions = int(number_of(given, "decisions", low=1))
                kept = asyncio.run(count_kept(url, num_users, num_decisions))
            get_console().print(
                f"after a restart {kept:,} of {num_users:,} users have all of their decisions",
                soft_wrap=True,
            )


if __name__ == "__main__":
    main()
