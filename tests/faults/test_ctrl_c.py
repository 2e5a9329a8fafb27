"""Ctrl-C while a command is read and its configuration is composed ends it with one line."""

import json
import os
import signal
from collections import Counter
from pathlib import Path

import pytest
from omegaconf.errors import ConfigAttributeError

from rl2_lightning.command_line import one_line_errors
from tests.builders import ROOT
from tests.command_line.program import call_program
from tests.forked import forked, run_forked

STOPPED = "stopped before the run began"
NUM = int(os.environ.get("FAULTS", "100"))
EXIT = """
import atexit, signal
from rl2_lightning.command_line import one_line_errors
signal.signal(signal.SIGINT, signal.default_int_handler)
atexit.register(signal.raise_signal, signal.SIGINT)
with one_line_errors():
    pass
"""
# Forks, each of which gets Ctrl-C at another moment of its own. They print how they end.
PROGRAM = """
import itertools, json, os, random, signal, sys, time
import train

def ending(delay):
    def press(*_):
        raise KeyboardInterrupt
    signal.signal(signal.SIGALRM, press)
    sys.argv = ["train.py", "debug=fast", "--cfg", "job"]  # prints the config
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    try:
        signal.setitimer(signal.ITIMER_REAL, delay)
        train.main()
        return "done"
    except SystemExit as end:
        return str(end.code)
    except BaseException as error:
        return repr(error)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)

def end_of_fork(delay):
    reading, writing = os.pipe()
    if os.fork() == 0:
        end = ending(delay)
        os.write(writing, end.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as told:
        text = told.read()
    os.wait()
    return text

rng = random.Random(sys.argv[2])
end_of_fork(0)
times = [time.monotonic()]
while len(times) < 6:
    assert end_of_fork(0) == "done"
    times.append(time.monotonic())
whole = min(after - before for before, after in itertools.pairwise(times))
print(json.dumps([end_of_fork(rng.uniform(1e-4, whole)) for _ in range(int(sys.argv[1]))]))
"""


@pytest.mark.parametrize(
    "then",
    [
        UnboundLocalError("f"),  # Hydra closes a file that it does not have yet
        ConfigAttributeError("'NoneType' object has no attribute '_flags'"),  # OmegaConf resets it
        AttributeError("'NoneType' object has no attribute '_flags'"),
    ],
)
def test_an_error_that_follows_from_ctrl_c_is_not_told(then: Exception) -> None:
    def compose() -> None:
        try:
            signal.raise_signal(signal.SIGINT)
        finally:
            raise then

    with pytest.raises(SystemExit, match=rf"^{STOPPED}$"), one_line_errors():
        compose()


def test_ctrl_c_before_the_command_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("train.register_schemas", lambda: signal.raise_signal(signal.SIGINT))
    with pytest.raises(SystemExit, match=rf"^{STOPPED}$"):
        call_program(tmp_path)


def test_ctrl_c_at_the_exit_of_the_interpreter_shows_nothing(tmp_path: Path) -> None:
    done = run_forked(["-c", EXIT], tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, "", "")


@pytest.mark.slow
def test_ctrl_c_at_random_moments() -> None:
    seed = os.environ.get("FAULTS_SEED", "1")
    with forked(["-c", PROGRAM, str(NUM), seed], ROOT) as program:
        assert program.wait(10 * NUM) == 0, program.read()
        ends = Counter(json.loads(program.read()[0]))
    print(dict(ends))  # noqa: T201
    assert set(ends) <= {STOPPED, "done"}, ends
    assert ends[STOPPED] > NUM / 10, "most moments are before the end"
