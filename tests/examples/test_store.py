"""The database of users: whose it is, and what a failed transaction leaves."""

import sqlite3
from pathlib import Path

import pytest

from examples.personalisation.store import Store, User
from rl2_lightning.errors import UserError


def test_users_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "users.db"
    store = Store(path)
    with store.transaction():
        ann = store.add("ann", b"agent", 5.0, b"first")
        store.add("bob", b"agent", 5.0, b"first")
    ann.decisions, ann.action, ann.probability, ann.seen = 1, 2, 0.25, 6.0
    with store.transaction():
        store.write([(ann, b"second")])
    store.close()
    store = Store(path)
    found = store.find(["ann", "bob", "eve"])
    assert found["ann"] == (User(1, "ann", 1, 2, 0.25, None, 6.0), b"agent", b"second")
    assert found.keys() == {"ann", "bob"}
    assert (found["ann"][0].waits, found["bob"][0].waits) == (True, False)
    assert store.count(b"agent") == (2, 0)
    assert store.count(b"other") == (2, 2)
    store.close()


def test_a_failed_transaction_leaves_nothing(tmp_path: Path) -> None:
    store = Store(tmp_path / "users.db")

    def add(*names: str, error: type[BaseException] | None = None) -> None:
        with store.transaction():
            for name in names:
                store.add(name, b"", 0.0, b"")
            if error is not None:
                raise error

    with pytest.raises(sqlite3.IntegrityError):
        add("ann", "ann")
    with pytest.raises(KeyboardInterrupt):
        add("bob", error=KeyboardInterrupt)
    assert store.count(b"") == (0, 0)
    store.close()


def test_many_users_are_found(tmp_path: Path) -> None:
    store = Store(tmp_path / "users.db")
    names = [f"user{number}" for number in range(1201)]
    with store.transaction():
        for name in names:
            store.add(name, b"", 0.0, b"")
    assert sorted(store.find(names)) == sorted(names)
    store.close()


@pytest.mark.parametrize("synchronous", ["normal", "full"])
def test_it_is_written_ahead(tmp_path: Path, synchronous: str) -> None:
    store = Store(tmp_path / "users.db", synchronous)
    ask = store._database.execute
    assert ask("PRAGMA journal_mode").fetchone() == ("wal",)
    assert ask("PRAGMA synchronous").fetchone() == ({"normal": 1, "full": 2}[synchronous],)
    store.close()


def test_one_process_has_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "users.db")
    with pytest.raises(UserError, match="is in use by another process"):
        Store(tmp_path / "users.db")
    store.close()
    Store(tmp_path / "users.db").close()


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    text, other, later = (tmp_path / name for name in ("notes.txt", "other.db", "later.db"))
    text.write_text("not a database, " * 100)
    for path, command in (
        (other, "CREATE TABLE things (x)"),
        (later, "PRAGMA user_version = 9"),
    ):
        if path == later:
            Store(path).close()
        database = sqlite3.connect(path)
        database.execute(command)
        database.commit()
        database.close()
    for path, line in (
        (text, "cannot be used"),
        (other, "belongs to another program"),
        (later, "has format 9, this program reads 1"),
        (text / "users.db", "cannot be used"),
    ):
        before = path.read_bytes() if path.is_file() else None
        for _ in range(2):  # the lock is free again
            with pytest.raises(UserError, match=line):
                Store(path)
        assert before is None or path.read_bytes() == before
