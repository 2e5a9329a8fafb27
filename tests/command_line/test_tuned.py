"""Settings that are taken for one combination of choices."""

from itertools import product
from pathlib import Path

import pytest

from rl2_lightning.errors import UserError
from rl2_lightning.notebook.composing import compose_config as compose_in_python
from tests.builders import ROOT, compose_config


def test_they_are_taken_for_it_alone(tmp_path: Path) -> None:
    def settings(*overrides: str) -> tuple[int, int, float]:
        cfg = compose_config(tmp_path, *overrides)
        return cfg.collection.num_trials, cfg.learner.num_minibatches, cfg.learner.learning_rate

    assert settings() == settings("env.num_arms=7") == (1024, 4, 5e-3)
    others = ("tuned=none", "memory=lstm", "experiment=mab_n10_k5")
    assert [settings(one) for one in others] == [(2048, 8, 3e-3)] * 3
    assert settings("env=grid_navi") == (512, 8, 3e-3)


def test_each_file_names_a_combination() -> None:
    def names(group: str) -> list[str]:
        return [path.stem for path in (ROOT / "configs" / group).glob("*.yaml")]

    groups = [names(group) for group in ("env", "memory", "learner", "experiment")]
    combinations = {"_".join(choice) for choice in product(*groups)}
    assert set(names("tuned")) - {"none"} <= combinations


def test_a_folder_of_the_user_can_have_some(tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    (tmp_path / "tuned" / "mine.yaml").write_text("# @package _global_\nseed: 7\n")
    assert compose_in_python(["tuned=mine"], config_dir=tmp_path).seed == 7
    with pytest.raises(UserError, match=r"tuned=your is unknown: known are .*, mine, none"):
        compose_in_python(["tuned=your"], config_dir=tmp_path)


@pytest.mark.parametrize("group", ["tuned", "memory"])
def test_no_choice_is_a_mistake_of_one_line(group: str) -> None:
    with pytest.raises(UserError, match="an override names no file of its group"):
        compose_in_python([f"{group}=null"])
