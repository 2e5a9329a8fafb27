"""The wheel holds everything that a run needs, and runs outside of the repository."""

import shutil
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.house.command import run

ROOT = Path(__file__).parents[2]
PACKAGES = ["rl2_lightning", "callbacks", "configs"]
PIP = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check"]
WHERE = "import importlib, sys; print(importlib.import_module(sys.argv[1]).__file__)"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built from a copy, so that no earlier build can lend it a file."""
    source, built = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("built")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, source / package)
    for file in ["train.py", "pyproject.toml", "README.md", "LICENSE"]:
        shutil.copy(ROOT / file, source)
    run([*PIP, "wheel", "--no-deps", "--no-build-isolation", "--no-index", source], built)
    return next(built.glob("rl2_lightning-*.whl"))


@pytest.fixture(scope="module")
def target(wheel, tmp_path_factory):
    """A folder that holds the installed wheel alone."""
    target = tmp_path_factory.mktemp("target")
    run([*PIP, "install", "--no-deps", "--no-index", "--target", target, wheel], target)
    return target


def test_wheel_holds_code_and_data(wheel):
    wanted = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for pattern in ["*.py", "*.yaml", "*.csv", "py.typed"]
        for path in (ROOT / package).rglob(pattern)
    }
    assert {"configs/train.yaml", "rl2_lightning/py.typed"} <= wanted
    assert not (wanted | {"train.py"}) - set(ZipFile(wheel).namelist())


def test_wheel_holds_nothing_else(wheel):
    tops = {name.split("/")[0] for name in ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {*PACKAGES, "train.py"}


@pytest.mark.parametrize("module", [*PACKAGES, "train"])
def test_module_comes_from_the_wheel(module, target, tmp_path):
    printed = run([sys.executable, "-c", WHERE, module], tmp_path, PYTHONPATH=str(target))
    assert Path(printed.strip()).is_relative_to(target)


def test_module_trains_from_an_empty_folder(target, tmp_path):
    run([sys.executable, "-m", "train", "debug=fast"], tmp_path, PYTHONPATH=str(target))


def test_console_script_finds_its_configs(target, tmp_path):
    script = [sys.executable, target / "bin" / "rl2-lightning"]
    assert run([*script, "debug=fast", "--cfg", "job"], tmp_path, PYTHONPATH=str(target)).strip()
