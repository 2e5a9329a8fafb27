"""Operations that are recorded as CUDA graphs compute what they compute one by one."""

from pathlib import Path

import pytest
import torch

from rl2_lightning import keys
from rl2_lightning.data.collector import TrialCollector
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.tabular_mdp.env import TabularMDP
from rl2_lightning.families.trial_env import TrialEnv
from tests.builders import MEMORIES, compose_config, make_agent
from tests.invariants.test_recorded_runs import STEADY, VARIANTS, assert_close_runs
from tests.invariants.test_runs import PPO, TINY, assert_same_run, train

ON_GPU = ("trainer.accelerator=gpu", STEADY)
GRAPHS = "trainer.cuda_graphs=true"


@pytest.mark.parametrize("family", [BernoulliBandit, TabularMDP])
def test_trials_are_the_same(family: type) -> None:
    env = TrialEnv(family(64, device="cuda"), episodes_per_trial=2)
    agent = make_agent(env, memory="min_gru").cuda()
    found = {}
    for uses_graphs in (False, True):
        collector = TrialCollector(env, agent, uses_graphs=uses_graphs)
        for seed in (1, 2, 1):
            collector.seed(seed, 100 + seed)
            trials = collector.rollout()
            found.setdefault(uses_graphs, []).append(trials.clone())
    for plain, replayed in zip(found[False], found[True], strict=True):
        for name in (keys.ACTION, keys.REWARD, keys.MASK, keys.OBSERVATION):
            assert torch.equal(plain[keys.STEPS, name], replayed[keys.STEPS, name]), name
    first, other, again = (one[keys.STEPS, keys.REWARD] for one in found[True])
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("memory", MEMORIES)
def test_each_memory(tmp_path: Path, memory: str) -> None:
    settings = (*TINY, *PPO, *ON_GPU, f"memory={memory}")
    plain = train(compose_config(tmp_path / "plain", *settings))
    assert_close_runs(plain, train(compose_config(tmp_path / "graphs", *settings, GRAPHS)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_each_kind_of_run(tmp_path: Path, variant: str) -> None:
    settings = (*TINY, *PPO, *VARIANTS[variant], *ON_GPU)
    plain = train(compose_config(tmp_path / "plain", *settings))
    assert_close_runs(plain, train(compose_config(tmp_path / "graphs", *settings, GRAPHS)))


@pytest.mark.usefixtures("deterministic")
def test_resume_is_bitwise(tmp_path: Path) -> None:
    settings = (*TINY, *PPO, *ON_GPU, GRAPHS)
    whole = train(compose_config(tmp_path / "whole", *settings))
    half = train(compose_config(tmp_path / "half", *settings, "trainer.max_epochs=3"))
    resumed = train(compose_config(tmp_path / "resumed", *settings, f"ckpt_path={half}"))
    assert_same_run(whole, resumed)
