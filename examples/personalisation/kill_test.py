"""Kill the service again and again: `python -m examples.personalisation.kill_test ckpt_path=...`.

Clients keep a log of what was acknowledged. After each SIGKILL the log is replayed by the agent
alone, and compared with a copy of the database: counts, last decisions and rewards, and the step
that the agent would make next from each memory.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import random
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

from aiohttp import ClientError
from rich import get_console
from rich.progress import Progress

from examples.personalisation.client import Client
from examples.personalisation.replay import Replay
from examples.personalisation.service import serve
from examples.personalisation.settings import ServiceSettings, number_of
from rl2_lightning.agents.agent import Agent
from rl2_lightning.arguments import REQUIRED, read_arguments
from rl2_lightning.command_line import one_line_errors
from rl2_lightning.errors import UserError
from rl2_lightning.run_folder import checkpoint_in

ARGUMENTS = {
    "ckpt_path": REQUIRED,  # a checkpoint, or the folder of a run
    "kills": 1000,
    "users": 64,
    "clients": 16,  # who ask at the same time
    "seconds": 0.3,  # the longest time from a start to a kill, after the service answers
    "seed": 1,  # of the times of kills, and of what clients do
}
SECONDS_TO_START = 60.0
SHARE_KILLED_EARLY = 0.1  # of the services, while they start
SECONDS_OF_A_START = 0.2
SHARE_REPEATED = 0.1  # of the requests, though they were answered
SHARE_REMOVED = 0.01
# Imported once, by a process that is forked for each service. Loading an agent imports the last.
PRELOADED = [
    "examples.personalisation.service",
    "examples.personalisation.client",
    "torch._dynamo",
]


class Asked(NamedTuple):
    """A request: "add", "drop", "act" or "observe"."""

    kind: str
    decision: str | None = None
    reward: float | None = None


class Report(NamedTuple):
    """What a test has found.

    Attributes:
        kills: services killed.
        decisions: decisions acknowledged.
        rewards: rewards acknowledged.
        in_doubt: requests without an answer at a kill, summed over the kills; one that no client
            repeats before the next kill counts again.
        compared: memories compared with the replay.
        differences: what was lost, one line each.
    """

    kills: int
    decisions: int
    rewards: int
    in_doubt: int
    compared: int
    differences: list[str]


class Clients:
    """Clients with some users each, who log what they are told.

    Args:
        replay: follows the log.
        num_users: number of users.
        num_clients: number of clients.
        numbers: decide what clients do.

    Attributes:
        in_doubt: requests that were sent and not acknowledged, by user.
        decisions: decisions acknowledged.
        rewards: rewards acknowledged.
        differences: answers that contradict earlier ones.
    """

    def __init__(
        self, replay: Replay, num_users: int, num_clients: int, numbers: random.Random
    ) -> None:
        self._replay = replay
        self._numbers = numbers
        names = [f"user{number}" for number in range(num_users)]
        self._names = [names[number::num_clients] for number in range(num_clients)]
        self.in_doubt: dict[str, Asked] = {}
        self.decisions = self.rewards = 0
        self.differences: list[str] = []

    async def ask_until_killed(self, url: str) -> None:
        """Ask the service until it answers no more."""
        # An answer that comes too early shows best if no request follows soon: some are alone.
        most = self._numbers.choice((1, len(self._names)))
        async with Client(url) as client:
            asking = self._numbers.sample(self._names, most)
            await asyncio.gather(*(self._ask_for(names, client) for names in asking))

    async def _ask_for(self, names: Sequence[str], client: Client) -> None:
        with suppress(ClientError, OSError):
            # What was in doubt is asked again, as a client does who has had no answer.
            for name in [one for one in names if one in self.in_doubt]:
                await self._ask(name, self.in_doubt[name], client)
            while not self.differences:
                name = self._numbers.choice(names)
                await self._ask(name, self._next(name), client)

    def _next(self, name: str) -> Asked:
        """What is asked for a user: mostly the next decision or its reward."""
        user = self._replay.users.get(name)
        if user is None:
            return Asked("add")
        if self._numbers.random() < SHARE_REMOVED:
            return Asked("drop")
        repeats = user.decisions > 0 and self._numbers.random() < SHARE_REPEATED
        if user.waits != repeats:
            reward = float(self._numbers.random() < 0.5) if user.waits else user.reward
            return Asked("observe", user.decision, reward)
        return Asked("act")

    async def _ask(self, name: str, asked: Asked, client: Client) -> None:
        self.in_doubt[name] = asked
        try:
            if asked.kind == "observe":
                assert asked.decision is not None
                assert asked.reward is not None
                answer = await client.observe(name, asked.decision, asked.reward)
            else:
                answer = await getattr(client, asked.kind)(name)
        except UserError as error:
            self.differences.append(f"{asked} for {name} was refused: {error}")
            return
        del self.in_doubt[name]
        self._log(name, asked, answer)

    def _log(self, name: str, asked: Asked, answer: dict[str, Any]) -> None:
        user = self._replay.users.get(name)
        if asked.kind == "add":
            self._replay.add(name)
        elif asked.kind == "drop":
            self._replay.users.pop(name)
        elif user is not None and asked.kind == "act" and not user.waits:
            self._replay.act(name, answer["decision"], answer["action"])
            self.decisions += 1
        elif user is not None and asked.kind == "observe" and user.waits:
            assert asked.reward is not None
            self._replay.observe(name, asked.reward)
            self.rewards += 1
        elif user is not None and answer["decision"] != user.decision:
            self.differences.append(f"{asked} for {name} gave {answer}, and before {user.decision}")


def run_kill_test(
    checkpoint: str,
    folder: Path,
    *,
    kills: int,
    users: int,
    clients: int,
    seconds: float,
    seed: int,
) -> Report:
    """Start and kill a service some times, and compare what is left each time.

    Args:
        checkpoint: path of the agent.
        folder: an empty folder for the database.
        kills: number of kills.
        users: number of users.
        clients: number of clients who ask at the same time.
        seconds: the longest time from a start to a kill.
        seed: seed of the times, and of what clients do.
    """
    agent = Agent.load(checkpoint)
    replay, numbers = Replay(agent), random.Random(seed)
    crowd = Clients(replay, users, clients, numbers)
    settings = ServiceSettings(checkpoint, folder / "users.db", port=free_port())
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(PRELOADED)
    compared = in_doubt = 0
    differences: list[str] = []
    with Progress(console=get_console(), transient=True) as progress:
        for _ in progress.track(range(kills), description="kills"):
            process = processes.Process(target=serve, args=(settings,))
            process.start()
            asyncio.run(ask_and_kill(process, settings, crowd, seconds, numbers))
            differences += crowd.differences
            in_doubt += len(crowd.in_doubt)
            if settings.database.exists() and not differences:
                path = copied(settings.database, folder / "copy")
                kinds = {name: asked.kind for name, asked in crowd.in_doubt.items()}
                differences += replay.differences(path, kinds)
                compared += len(replay.users.keys() - crowd.in_doubt.keys())
            if differences:
                break
    return Report(kills, crowd.decisions, crowd.rewards, in_doubt, compared, differences)


async def ask_and_kill(
    process: BaseProcess,
    settings: ServiceSettings,
    clients: Clients,
    seconds: float,
    numbers: random.Random,
) -> None:
    """Let clients ask a service, and kill it, sometimes while it starts."""
    url = f"http://{settings.host}:{settings.port}"
    if numbers.random() < SHARE_KILLED_EARLY:
        await asyncio.sleep(numbers.uniform(0, SECONDS_OF_A_START))
        process.kill()
    else:
        await answers(url, process)
        asking = asyncio.create_task(clients.ask_until_killed(url))
        await asyncio.sleep(numbers.uniform(0, seconds))
        process.kill()
        await asking
    process.join()


async def answers(url: str, process: BaseProcess) -> None:
    """Wait until a service answers.

    Raises:
        UserError: it does not, or has ended.
    """
    end = time.monotonic() + SECONDS_TO_START
    while time.monotonic() < end and process.is_alive():
        with suppress(ClientError, OSError):
            async with Client(url) as client:
                await client.health()
                return
        await asyncio.sleep(0.01)
    raise UserError(f"the service at {url} does not start: see what it has printed")


def copied(database: Path, folder: Path) -> Path:
    """A copy of a database as a killed process has left it, with the write-ahead log."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for path in database.parent.glob(f"{database.name}*"):
        if not path.name.endswith(("-shm", ".lock")):
            shutil.copy(path, folder)
    return folder / database.name


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        port: int = listening.getsockname()[1]
        return port


def main() -> None:
    """Run the command line."""
    with one_line_errors():
        given = read_arguments(sys.argv[1:], ARGUMENTS)
        checkpoint = checkpoint_in(given["ckpt_path"], "ckpt_path")
        counts = {
            name: int(number_of(given, name, low=1)) for name in ("kills", "users", "clients")
        }
        with tempfile.TemporaryDirectory() as name:
            report = run_kill_test(
                checkpoint,
                Path(name),
                **counts,
                seconds=number_of(given, "seconds", low=0),
                seed=int(number_of(given, "seed", low=0)),
            )
        if report.differences:
            raise UserError(f"something was lost: {'; '.join(report.differences)}")
        get_console().print(
            f"{report.kills:,} kills, {report.decisions:,} decisions and {report.rewards:,} "
            f"rewards acknowledged, {report.in_doubt:,} requests in doubt: of {report.compared:,} "
            "memories compared after a kill, none differs",
            soft_wrap=True,
        )


if __name__ == "__main__":
    main()
