"""Config files of the user's own, with a checkpoint that was trained with them."""

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from tests.command_line.program import SMALL, call_program

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
