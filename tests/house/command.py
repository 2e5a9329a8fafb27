"""Commands as a user's shell would run them."""

import os
import subprocess


def run(command, folder, **variables):
    """Runs a command that must succeed; returns what it prints.

    It sees neither the flags of a make around the tests nor a path to the repository.
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
