"""Drawn combinations of choices and values compose and build, or end in one error line.

`FAULTS=1000 pytest -m slow -s tests/faults/test_config_pairs.py` draws 1000; counts are printed.
"""

import os
import warnings
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig

from rl2_lightning.build import build_data, build_learner, build_trainer, require_machine
from rl2_lightning.command_line import line_of
from rl2_lightning.config_checks import check
from rl2_lightning.parts import leave_out_foreign
from tests.builders import ROOT, compose_config
from tests.faults.test_config_values import NASTY, TOO_LONG, scalar_fields

NUM_CONFIGS = int(os.environ.get("FAULTS", "60"))
# Families that need no extra, and no table that takes long to compute.
FAMILIES = (
    *("bernoulli_bandit", "gaussian_bandit", "restless_bandit", "two_step", "tabular_mdp"),
    *("grid_navi", "point_robot", "pendulum", "cart_pole", "recall", "memory_planning"),
)
PLAIN = ("1", "2", "3", "8", "0.5", "0.99", "1e-3", "false", "auto", "[8]", "[observation]")
GROUPS = {
    "env": FAMILIES,
    "memory": tuple(file.stem for file in (ROOT / "configs/memory").glob("*.yaml")),
    "learner": tuple(file.stem for file in (ROOT / "configs/learner").glob("*.yaml")),
    "agent": ("default", "belief"),
}
BASE = (
    *("debug=fast", "trainer.accelerator=cpu"),
    *("evaluation.validation_tasks=4", "evaluation.test_tasks=6"),
)
CHOICES = tuple(f"{group}={name}" for group, names in GROUPS.items() for name in sorted(names))
FIELDS = tuple(name for name in scalar_fields() if not name.startswith(("callbacks", "logger")))

one_value = st.tuples(st.sampled_from(FIELDS), st.sampled_from((*NASTY, *PLAIN, *PLAIN))).filter(
    lambda one: one not in TOO_LONG
)
overrides = st.tuples(
    st.lists(st.sampled_from(CHOICES), max_size=3, unique_by=lambda one: one.partition("=")[0]),
    st.lists(one_value, min_size=1, max_size=2, unique_by=lambda one: one[0]),
)


def line_told(error: Exception, *, in_job: bool) -> str:
    """The line that the program would print."""
    line = line_of(error, in_job)
    if line is None:
        raise error
    return line


def build(cfg: DictConfig, given: list[str]) -> str | None:
    """Build all that a run needs; returns the error line, if there is one."""
    try:
        check(cfg, num_cores=2, multirun=False)
        leave_out_foreign(cfg, given)
        require_machine(cfg)
        with closing(build_data(cfg)) as data:
            build_trainer(cfg, data, build_learner(cfg, data))
    except Exception as error:  # noqa: BLE001 - any that the program explains
        return line_told(error, in_job=True)
    return None


@pytest.mark.slow
def test_combinations_build_or_end_in_one_line(tmp_path: Path) -> None:
    counts = Counter[str]()

    @settings(
        max_examples=NUM_CONFIGS,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(overrides)
    def try_one(drawn: tuple[list[str], list[tuple[str, str]]]) -> None:
        choices, values = drawn
        told = [*choices, *(f"{name}={value}" for name, value in values)]
        counts["configs"] += 1
        try:
            cfg = compose_config(tmp_path / "unused", *BASE, *told)
        except Exception as error:  # noqa: BLE001 - any that the program explains
            line_told(error, in_job=False)
            counts["refused by their types"] += 1
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            line = build(cfg, told)
        counts["built" if line is None else "refused"] += 1

    try_one()
    print(dict(counts), flush=True)  # noqa: T201
    assert counts["built"] > 0
    assert counts["refused"] > 0
