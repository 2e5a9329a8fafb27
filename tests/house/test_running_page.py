"""The curriculum on the page about settings is that of a run."""

import re
from pathlib import Path

import yaml
from omegaconf import OmegaConf

from rl2_lightning.build import build_data
from tests.builders import compose_config
from tests.house.pages import ROOT, blocks_of

PAGE = "docs/running.md"


def test_the_stages_of_the_curriculum_run_first(tmp_path: Path) -> None:
    (text,) = (block.text for block in blocks_of(PAGE) if block.language == "yaml")
    cfg = compose_config(tmp_path, "experiment=mab_n100_k10", "collection.uses_curriculum=true")
    OmegaConf.set_struct(cfg, False)
    cfg.collection.curriculum = {}
    stages = build_data(OmegaConf.merge(cfg, yaml.safe_load(text))).plan.stages
    found = [(one.num_trials, one.trial_length) for one in stages]
    assert found == [(2000, 10), (512, 100), (2048, 100)]
    assert stages[0].num_iterations * stages[0].steps_per_iteration == 2_000_000


def test_a_stage_is_added_on_the_command_line(tmp_path: Path) -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    (override,) = re.findall(r"`'(\+collection\.curriculum=[^`]*)'`", text)
    stages = build_data(compose_config(tmp_path, override)).plan.stages
    assert stages[0].num_trials == 512
    assert len(stages) == 2
