"""Users and their memories in SQLite."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from rl2_lightning.errors import UserError

APPLICATION = 0x524C3255  # "RL2U" in the file's header: no other program's database is written to
FORMAT = 1
NAMES_AT_ONCE = 500  # in a query; SQLite's own limit is higher
SYNCHRONOUS = ("normal", "full")
TABLE = """
CREATE TABLE users (
    id INTEGER PRIMARY KEY AUTOINCREMENT,  -- never used twice, also not after a deletion
    name TEXT NOT NULL UNIQUE,
    agent BLOB NOT NULL,                   -- whose memory it is
    decisions INTEGER NOT NULL,            -- made so far
    action INTEGER,                        -- of the last decision
    probability REAL,                      -- with which it was chosen
    reward REAL,                           -- of the last decision; NULL while it is awaited
    seen REAL NOT NULL,                    -- when the memory changed last, seconds since 1970
    memory BLOB NOT NULL
)
"""
COLUMNS = "id, name, agent, decisions, action, probability, reward, seen, memory"
INSERT = f"INSERT INTO users ({COLUMNS[4:]}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
UPDATE = """
UPDATE users SET decisions = ?, action = ?, probability = ?, reward = ?, seen = ?, memory = ?
WHERE id = ?
"""


@dataclass
class User:
    """What is known of a user beside the memory; see the table's columns."""

    id: int
    name: str
    decisions: int = 0
    action: int | None = None
    probability: float | None = None
    reward: float | None = None
    seen: float = 0.0

    @property
    def waits(self) -> bool:
        """Whether the reward of the last decision is awaited."""
        return self.decisions > 0 and self.reward is None

    @property
    def decision(self) -> str:
        """Id of the last decision: no other decision has ever had it."""
        return f"{self.id}-{self.decisions}"


class Store:
    """A database of users, which one process at a time may open.

    A committed transaction survives the end of the process, however it ends. With
    `synchronous="full"` it also survives a power cut, for the disk is waited for; with "normal" a
    power cut may undo the last transactions, and leaves those before them whole.

    Args:
        path: path of the database, which is made unless it exists.
        synchronous: "normal" or "full", of SQLite's write-ahead log.

    Raises:
        UserError: another process has it open, or it is no database of users.
    """

    def __init__(self, path: Path, synchronous: str = "normal") -> None:
        self._path = path
        self._lock = FileLock(f"{path}.lock")
        try:
            self._lock.acquire(timeout=0)
            # Transactions are begun and committed by hand.
            self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
            self._prepare(synchronous)
        except Timeout as error:
            raise UserError(
                f"database={path} is in use by another process: stop it, or give another file"
            ) from error
        except (OSError, sqlite3.Error) as error:
            self._lock.release()
            raise UserError(
                f"database={path} cannot be used ({error}): give another file"
            ) from error
        except UserError:
            self.close()
            raise

    def _prepare(self, synchronous: str) -> None:
        ask = self._database.execute
        (application,), (version,) = (
            ask(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        (num_tables,) = ask("SELECT count(*) FROM sqlite_schema").fetchone()
        if num_tables == 0:
            ask("PRAGMA journal_mode = WAL")
            with self.transaction():
                ask(TABLE)
                ask(f"PRAGMA application_id = {APPLICATION}")
                ask(f"PRAGMA user_version = {FORMAT}")
        elif application != APPLICATION:
            raise UserError(f"database={self._path} belongs to another program: give another file")
        elif version != FORMAT:
            raise UserError(
                f"database={self._path} has format {version}, this program reads {FORMAT}: use "
                "the version that has written it, or give another file"
            )
        ask(f"PRAGMA synchronous = {synchronous}")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that is written within, or nothing of it if an error is raised."""
        self._database.execute("BEGIN")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:
                self._database.execute("ROLLBACK")
            raise

    def find(self, names: Sequence[str]) -> dict[str, tuple[User, bytes, bytes]]:
        """Those of the users that exist, each with the agent's identity and the memory."""
        found = {}
        for start in range(0, len(names), NAMES_AT_ONCE):
            some = names[start : start + NAMES_AT_ONCE]
            query = f"SELECT {COLUMNS} FROM users WHERE name IN ({','.join('?' * len(some))})"
            for number, name, agent, *rest, memory in self._database.execute(query, some):
                found[name] = User(number, name, *rest), agent, memory
        return found

    def add(self, name: str, agent: bytes, seen: float, memory: bytes) -> User:
        """Make a user, whose name must be new."""
        row = (name, agent, 0, None, None, None, seen, memory)
        number = self._database.execute(INSERT, row).lastrowid
        assert number is not None
        return User(number, name, seen=seen)

    def write(self, users: Iterable[tuple[User, bytes]]) -> None:
        """Replace what is stored of users, each with the memory."""
        self._database.executemany(
            UPDATE,
            [
                (
                    *(one.decisions, one.action, one.probability, one.reward),
                    *(one.seen, memory, one.id),
                )
                for one, memory in users
            ],
        )

    def remove(self, name: str) -> bool:
        """Delete a user; whether there was one."""
        return self._database.execute("DELETE FROM users WHERE name = ?", (name,)).rowcount > 0

    def remove_unseen_since(self, time: float) -> list[str]:
        """Delete the users whose memory has not changed since a time; their names."""
        query = "DELETE FROM users WHERE seen < ? RETURNING name"
        return [name for (name,) in self._database.execute(query, (time,)).fetchall()]

    def count(self, agent: bytes) -> tuple[int, int]:
        """The number of users, and of those whose memory is of another agent."""
        query = "SELECT count(*), count(*) FILTER (WHERE agent != ?) FROM users"
        total, of_others = self._database.execute(query, (agent,)).fetchone()
        return total, of_others

    def probe(self) -> None:
        """Write something that changes nothing.

        Raises:
            sqlite3.Error: it cannot be written.
        """
        self._database.execute(f"PRAGMA user_version = {FORMAT}")

    def close(self) -> None:
        """Close the database; its write-ahead log is then empty."""
        self._database.close()
        self._lock.release()
