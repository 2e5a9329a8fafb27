"""The wheel has everything that a run needs in one package, and runs outside the repository."""

import json
import shutil
import sys
import tarfile
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.house.command import run

ROOT = Path(__file__).parents[2]
PACKAGE = "rl2_lightning"
# Links of the package to what stands at the repository's root.
LINKED = {"callbacks": "callbacks", "configs": "configs", "__main__.py": "train.py"}
FOLDERS = ("callbacks", "configs")
PIP = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
SDIST = "from setuptools.build_meta import build_sdist; import sys; build_sdist(sys.argv[1])"
WHERE = """
import sys
from importlib.util import find_spec
found = find_spec(sys.argv[1])
print(found and found.origin)
"""


def wanted_files():
    """The files that belong in the package."""
    roots = {ROOT / PACKAGE: PACKAGE} | {ROOT / name: f"{PACKAGE}/{name}" for name in FOLDERS}
    found = {f"{PACKAGE}/__main__.py"}
    for root, name in roots.items():
        for pattern in ("*.py", "*.yaml", "*.csv", "py.typed"):
            found |= {f"{name}/{p.relative_to(root).as_posix()}" for p in root.rglob(pattern)}
    return found


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A copy of the sources, so that no file of an earlier build is used."""
    source = tmp_path_factory.mktemp("source")
    no_cache = shutil.ignore_patterns("__pycache__")
    for folder in (PACKAGE, *FOLDERS):
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=no_cache)
    for file in ("train.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    return source


@pytest.fixture(scope="module")
def wheel(source, tmp_path_factory):
    built = tmp_path_factory.mktemp("built")
    run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", source], built)
    return next(built.glob("rl2_lightning-*.whl"))


@pytest.fixture(scope="module")
def target(wheel, tmp_path_factory):
    """A folder that only contains the installed wheel."""
    target = tmp_path_factory.mktemp("target")
    run([*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel], target)
    return target


@pytest.mark.parametrize("name", LINKED)
def test_the_package_has_links_to_what_stands_at_the_root(name):
    link = ROOT / PACKAGE / name
    assert link.is_symlink()
    assert link.readlink() == Path("..") / LINKED[name]


def test_wheel_holds_code_and_data(wheel):
    wanted = wanted_files()
    some = ("callbacks/summary.py", "configs/train.yaml", "configs/env/two_step.yaml", "py.typed")
    assert {f"{PACKAGE}/{name}" for name in some} <= wanted
    assert any(name.endswith(".csv") for name in wanted)
    assert not wanted - set(ZipFile(wheel).namelist())


def test_wheel_holds_nothing_else(wheel):
    names = ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {PACKAGE}
    assert not {name for name in names if name.startswith(f"{PACKAGE}/")} - wanted_files()


def test_source_distribution_holds_the_same_without_links(source, tmp_path):
    run([sys.executable, "-c", SDIST, tmp_path], source)
    with tarfile.open(next(tmp_path.glob("*.tar.gz"))) as archive:
        members = archive.getmembers()
    names = {member.name.partition("/")[2] for member in members}
    assert not wanted_files() - names
    assert not names & set(LINKED.values())
    assert all(member.isfile() or member.isdir() for member in members)


def test_package_comes_from_the_wheel(target, tmp_path):
    printed = run([sys.executable, "-c", WHERE, PACKAGE], tmp_path, PYTHONPATH=str(target))
    assert Path(printed.strip()).is_relative_to(target)


@pytest.mark.parametrize("module", ["callbacks", "configs", "train"])
def test_nothing_of_a_common_name_is_installed(module, target, tmp_path):
    assert not list(target.glob(f"{module}*"))
    printed = run([sys.executable, "-c", WHERE, module], tmp_path, PYTHONPATH=str(target))
    assert printed.strip() == "None"


@pytest.mark.parametrize("has_own_files", [False, True])
def test_module_trains_from_a_folder(target, tmp_path, has_own_files):
    if has_own_files:
        # Files of the same names as ours, which are not to be used.
        (tmp_path / "train.py").write_text("raise SystemExit('not this one')")
        (tmp_path / "callbacks").mkdir()
        (tmp_path / "callbacks" / "__init__.py").write_text("raise SystemExit('not this one')")
        (tmp_path / "configs").mkdir()
        (tmp_path / "configs" / "train.yaml").write_text("seed: 77")
    command = [sys.executable, "-m", "rl2_lightning", "debug=fast", "hydra.run.dir=run"]
    run(command, tmp_path, PYTHONPATH=str(target))
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["seed"] == 1


def test_console_script_is_the_same_program(target, tmp_path):
    options = ["debug=fast", "env=grid_navi", "--cfg", "job"]
    script = [sys.executable, target / "bin" / "rl2-lightning"]
    installed = run([*script, *options], tmp_path, PYTHONPATH=str(target))
    assert "rl2_lightning.families.grid_navi.GridNavi" in installed
    assert installed == run([sys.executable, ROOT / "train.py", *options], tmp_path)
