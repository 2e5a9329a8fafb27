"""Run commands like a user's shell."""

import os
import subprocess


def run(command, folder, **variables):
    """Run a command that must succeed, and return its output.

    It inherits neither the flags of a surrounding make nor a path to the repository.
    """
    hidden = ("MAKE", "MFLAGS", "PYTHONPATH")
    env = {name: value for name, value in os.environ.items() if not name.startswith(hidden)}
    done = subprocess.run(
        command,
        check=False,
        cwd=folder,
        env=env | variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
