"""A checkpoint whose training had a curriculum is tested and resumed by its path alone."""

import sys
from pathlib import Path

import pytest
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.config import register_schemas
from rl2_lightning.config_checks import check
from rl2_lightning.parts import leave_out_foreign
from rl2_lightning.resumed_config import with_stored_config
from rl2_lightning.stored import require_matching_checkpoint
from rl2_lightning.stored_choices import add_choices
from tests.builders import ROOT
from tests.command_line.program import SMALL, call_program

CHECKPOINTS = sorted((ROOT / "results" / "checkpoints").glob("*.ckpt"))
STAGES = "+collection.curriculum={short: {env_steps: 16, num_trials: 8, trial_length: 1}}"
TWO_STAGES = (*SMALL, STAGES, "collection.uses_curriculum=true", "collection.total_env_steps=48")


@pytest.mark.parametrize("path", CHECKPOINTS, ids=lambda path: path.stem)
def test_every_published_checkpoint_tells_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train.py", "mode=test", f"ckpt_path={path}"])
    add_choices(str(path))
    given = sys.argv[1:]
    checkpoint = Checkpoint.read(path)
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        cfg = compose("train", [*given, "output_dir=unused"])
        merged, differing = with_stored_config(cfg, checkpoint, given)
    check(merged, num_cores=1, multirun=False)
    leave_out_foreign(merged, given)
    require_matching_checkpoint(merged)
    assert not differing
    stored = checkpoint.config["collection"]["curriculum"]
    kept = OmegaConf.to_container(merged.collection.curriculum)
    assert kept.keys() == stored.keys()
    assert all(kept[name][key] == one[key] for name, one in stored.items() for key in one)


def test_a_curriculum_is_resumed(tmp_path: Path) -> None:
    run, resumed = tmp_path / "run", tmp_path / "resumed"
    call_program(tmp_path, *TWO_STAGES, f"hydra.run.dir={run}")
    given = (f"ckpt_path={run}", "trainer.max_epochs=2")
    call_program(tmp_path, *given, f"hydra.run.dir={resumed}")
    left, right = (OmegaConf.load(one / "config.yaml").collection for one in (run, resumed))
    assert left == right
    assert list(left.curriculum) == ["short"]


def test_a_stage_that_the_stored_config_lacks_is_gone(tmp_path: Path, finished_run: Path) -> None:
    (tmp_path / "configs" / "env").mkdir(parents=True)
    shipped = (ROOT / "configs" / "env" / "bernoulli_bandit.yaml").read_text()
    text = f"{shipped}  curriculum: {{early: {{env_steps: 16, num_trials: 8}}}}\n"
    (tmp_path / "configs" / "env" / "staged.yaml").write_text(text)
    run = tmp_path / "run"
    given = ("--config-dir", str(tmp_path / "configs"), "env=staged", "trainer.max_epochs=2")
    call_program(tmp_path, *given, f"ckpt_path={finished_run}", f"hydra.run.dir={run}")
    assert OmegaConf.load(run / "config.yaml").collection.curriculum == {}
