"""Agents learn random MDPs to a threshold."""

from pathlib import Path

import pytest

from tests.learning.test_bandits import shares


@pytest.mark.slow
def test_reads_of_pairs_learn_mdps_soon(tmp_path: Path) -> None:
    few = ("collection.total_env_steps=512_000", "evaluation.test_tasks=500")
    trial_return, _ = shares(
        tmp_path,
        "experiment=mdp_n10",
        "trainer.accelerator=cpu",
        "trainer.check_val_every_n_epoch=100",
        *few,
    )
    # A policy that ignores the state has 117, PSRL with the right prior 134.
    assert trial_return > 140
