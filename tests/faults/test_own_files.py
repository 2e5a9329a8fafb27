"""Config files of the user's own, with a checkpoint that was trained with them."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from rl2_lightning.agents.memories.lstm import LSTM
from tests.command_line.program import SMALL, call_program, mistake_told

MEMORY = "_target_: rl2_lightning.agents.memories.lstm.LSTM\nhidden_size: 5\nnum_layers: 1\n"
MEMORY += "max_timescale: null\n"


def write(folder: Path, name: str, text: str) -> None:
    path = folder / "memory" / f"{name}.yaml"
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(text)


def ways(folder: Path) -> dict[str, tuple[str, ...]]:
    """Both ways to name a folder with config files."""
    return {
        "flag": ("--config-dir", str(folder)),
        "field": (f"hydra.searchpath=[file://{folder}]",),
    }


@pytest.mark.parametrize("way", ["flag", "field"])
def test_they_are_found_by_either_way(tmp_path: Path, way: str) -> None:
    write(tmp_path / "mine", "own", MEMORY)
    where, run = ways(tmp_path / "mine")[way], tmp_path / "run"
    given = [text for text in SMALL if not text.startswith("memory.")]
    call_program(tmp_path, *where, *given, "memory=own", f"hydra.run.dir={run}")
    again = tmp_path / "again"
    choice = "memory=own"
    call_program(
        tmp_path, *where, "mode=test", choice, f"ckpt_path={run}", f"hydra.run.dir={again}"
    )
    assert OmegaConf.load(again / "config.yaml").memory.hidden_size == 5


@pytest.fixture(scope="module")
def own_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run with a memory of the user's own."""
    run = tmp_path_factory.mktemp("own")
    given = [text for text in SMALL if not text.startswith("memory.")]
    target = f"memory._target_={__name__}.OwnLSTM"
    call_program(run, *given, "memory=lstm", target, f"hydra.run.dir={run}")
    return run


class OwnLSTM(LSTM):
    """A memory of the user's own."""


@pytest.mark.parametrize("way", ["flag", "field"])
def test_a_file_that_derives_from_another(tmp_path: Path, own_run: Path, way: str) -> None:
    own = MEMORY.replace("rl2_lightning.agents.memories.lstm.LSTM", f"{__name__}.OwnLSTM")
    mine, run = tmp_path / "mine", tmp_path / "run"
    write(mine / "parts", "base", own)
    write(mine, "derived", "defaults: [/parts/memory/base@_here_]\nhidden_size: 3\n")
    where = ways(mine)[way]
    more = ("mode=test", f"ckpt_path={own_run}", f"hydra.run.dir={run}")
    call_program(tmp_path, *where, *more, f"trust_targets=[{__name__}]")
    stored = OmegaConf.load(own_run / "config.yaml").memory
    assert OmegaConf.load(run / "config.yaml").memory == stored


BROKEN = {
    "list": "[1, 2]",
    "null": "memory: null",
    "unreadable": "a: [1",
    "number": "3",
    "empty": "",
    "bytes": "\x00",
    "derived from nothing": "defaults: [nowhere]",
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_files_that_say_nothing_are_passed_over(
    tmp_path: Path, own_run: Path, finished_run: Path, text: str
) -> None:
    write(tmp_path / "mine", "broken", text)
    where, run = ways(tmp_path / "mine")["flag"], f"hydra.run.dir={tmp_path / 'run'}"
    line = mistake_told(tmp_path, *where, f"ckpt_path={own_run}")
    assert "which none of memory=broken, " in line
    call_program(tmp_path, *where, "mode=test", f"ckpt_path={finished_run}", run)


@pytest.mark.parametrize("experiment", [(), ("experiment=mab_n10_k5",)])
def test_a_choice_that_is_removed(
    tmp_path: Path, finished_run: Path, experiment: tuple[str, ...]
) -> None:
    line = mistake_told(tmp_path, *experiment, f"ckpt_path={finished_run}", "~memory")
    assert line.startswith("error: ~memory removes what ckpt_path=")
    assert ": leave it out, or choose another file of the group, as in memory=" in line
