"""What many tests rely on: programs that are forked, and the pairs of parameters."""

import signal
import subprocess
import sys
import time
from itertools import combinations
from pathlib import Path

import pytest

from tests.cases import every_pair
from tests.forked import forked, run_forked, variables_of_a_shell

PROGRAMS = {
    "place": "import os, sys; print(sys.argv, sys.path[0], __name__, os.environ['GIVEN'])",
    "words": "import sys; print('first'); sys.exit('last words')",
    "number": "import sys; sys.exit(3)",
    "error": "print('first'); raise ValueError('no')",
    "end": "import atexit; atexit.register(print, 'at the end'); print(input.__name__)",
    "own module": "import own; print(own.NUMBER)",
    "signal": "import os; os.kill(os.getpid(), 15)",
}


@pytest.mark.parametrize("kind", ["-c", "-m", "script"])
@pytest.mark.parametrize("program", PROGRAMS)
def test_a_fork_behaves_like_python(tmp_path: Path, program: str, kind: str) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "own.py").write_text("NUMBER = 7")
    (tmp_path / "program.py").write_text(PROGRAMS[program])
    given = {"-c": ["-c", PROGRAMS[program]], "-m": ["-m", "program"]}
    arguments = [*given.get(kind, [str(tmp_path / "program.py")]), "seed=1", "a b"]
    env = {**variables_of_a_shell(), "PYTHONPATH": str(tmp_path / "modules"), "GIVEN": "here"}
    found = run_forked(arguments, tmp_path, env)
    expected = subprocess.run(
        [sys.executable, *arguments],
        check=False,
        cwd=tmp_path,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert (found.returncode, found.stdout) == (expected.returncode, expected.stdout)
    # The lines of a traceback differ, its last one does not.
    assert found.stderr.splitlines()[-1:] == expected.stderr.splitlines()[-1:]


def test_a_fork_can_be_watched_and_ended(tmp_path: Path) -> None:
    text = "import time; print('begun', flush=True); time.sleep(1000)"
    with forked(["-c", text], tmp_path) as program:
        program.wait_for("begun")
        assert program.poll() is None
        program.send_signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM
    with forked(["-c", text], tmp_path) as program:
        begun = time.monotonic()
    assert program.poll() == -signal.SIGKILL
    assert time.monotonic() - begun < 10


def test_every_pair_of_values_is_in_the_quick_part() -> None:
    axes = ("abcdefg", range(4), [True, False], "xyz")
    cases = every_pair(*axes)
    assert len({case.values for case in cases}) == len(cases) == 7 * 4 * 2 * 3
    quick = [case.values for case in cases if not case.marks]
    assert len(quick) < len(cases) / 4
    for (one, left), (other, right) in combinations(enumerate(axes), 2):
        found = {(values[one], values[other]) for values in quick}
        assert len(found) == len(left) * len(right)
