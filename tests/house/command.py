"""Run commands like a user's shell."""

import os
import subprocess

from tests.forked import run_forked


def run_python(arguments, folder, **variables):
    """Run `python` with arguments in a process of its own; it must succeed. Returns its output."""
    done = run_forked(arguments, folder, environment(variables))
    assert done.returncode == 0, f"python {arguments}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(variables):
    """Neither the flags of a surrounding make nor a path to the repository; else as here."""
    hidden = ("MAKE", "MFLAGS", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    return env | variables


def run(command, folder, **variables):
    """Run a command in a new process; it must succeed. Returns its output."""
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=environment(variables),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
