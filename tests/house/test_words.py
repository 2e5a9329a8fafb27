"""No file contains a path of the machine that it was written on, or a package registry."""

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
MACHINE_PATH = r"(?<![\w.~/])/(?:work|root|home|Users|opt|tmp)/"
REGISTRY = r"\bpypi\.org|pythonhosted\.org|download\.pytorch\.org|anaconda\.org|index-url"
FORBIDDEN = re.compile(f"{MACHINE_PATH}|{REGISTRY}")


def test_no_machine_paths_and_no_registries():
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()[:100]}"
        for path in tracked_text_files()
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if FORBIDDEN.search(line)
    ]
    assert not found, "\n".join(found)


def tracked_text_files():
    """Yield the text files that git tracks, except this one."""
    command = ["git", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for path in [ROOT / name for name in listed.split("\0") if name]:
        if path.is_file() and path != Path(__file__) and b"\0" not in path.read_bytes():
            yield path
