"""Experiments whose environments need an extra are trained, validated and tested."""

from pathlib import Path

import pytest

from rl2_lightning.build import build_data, build_learner
from tests.builders import compose_config
from tests.command_line.test_configs import run_small
from tests.extras.experiments import WITH_EXTRA
from tests.extras.packages import needs

TAKING_LONG = ("metaworld_ml45",)  # like metaworld_ml10, with more kinds of tasks


@pytest.mark.parametrize(
    "experiment",
    [
        pytest.param(name, marks=needs(extra))
        for name, extra in WITH_EXTRA.items()
        if name not in TAKING_LONG
    ],
)
def test_experiment_runs(tmp_path: Path, experiment: str) -> None:
    whole = compose_config(tmp_path, f"experiment={experiment}")
    data = build_data(whole)
    assert data.plan.num_iterations > 1
    build_learner(whole, data)
    short = ("env.horizon=10", "evaluation.batch_size=4")
    run_small(tmp_path, f"experiment={experiment}", *short)
