"""A replay source returns the windows that it has stored."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.data.replay import ReplaySource
from rl2_lightning.data.replay_settings import ReplaySettings
from rl2_lightning.data.sources import OnPolicySource
from rl2_lightning.data.windows import cut_windows
from rl2_lightning.settings import make_settings
from tests.builders import (
    bandit_trials,
    collect,
    compose_config,
    make_agent,
    make_learner,
    starts_of,
)
from tests.command_line.program import SMALL, UNSEEN, mistake_told, run_program
from tests.invariants.test_runs import TINY, assert_same_run, contents, of_learner, train

TWO_RANKS = ("trainer.devices=2", "trainer.strategy=ddp", "collection.total_env_steps=1600")
REPLAYING = ("r2d2", "r2d2_ppo", "varibad")
NUM_TRIALS, WINDOW = 8, 4
NUM_WINDOWS = NUM_TRIALS * 2  # of trials of six steps


def windows(seed: int = 1) -> TensorDictBase:
    env = bandit_trials(NUM_TRIALS)
    trials = collect(env, make_learner(make_agent(env), env), window=WINDOW, burn_in=1, seed=seed)
    assert starts_of(env, WINDOW, 1) == [0, 3]
    cut = cut_windows(trials, env.max_steps, WINDOW, 1, [keys.TASK])
    return cut.set("number", torch.arange(NUM_WINDOWS))


def source_of(collected: Iterator[TensorDictBase], **sizes: int) -> OnPolicySource:
    sizes = {"num_epochs": 3, "num_minibatches": 4, **sizes}
    return OnPolicySource(lambda: next(collected), lambda epoch: 100 + epoch, **sizes)


@pytest.mark.parametrize("sizes", [{}, {"num_epochs": 1}, {"num_minibatches": 16}], ids=str)
def test_replay_keeps_what_it_was_given(sizes: dict[str, int]) -> None:
    given = [windows(seed=1), windows(seed=2)]
    kept = [one.clone() for one in given]
    source = source_of(iter(given), **sizes)
    num_epochs = sizes.get("num_epochs", 3)
    for iteration in kept:
        times: Counter[int] = Counter()
        for minibatch in source:
            for window in minibatch.unbind(0):
                number = int(window["number"])
                times[number] += 1
                same = window == iteration[number]
                assert all(entry.all() for entry in same.values(True, True)), number
        assert times == dict.fromkeys(range(NUM_WINDOWS), num_epochs)


def replay_source_of(collected: Iterator[TensorDictBase], **changes: Any) -> ReplaySource:
    settings = make_settings(ReplaySettings, {"capacity": 64, "batch_size": 8, **changes})
    return ReplaySource(lambda: next(collected), lambda draw: draw, settings, num_minibatches=4)


@pytest.mark.parametrize("on_disk", [False, True])
def test_replay_keeps_what_it_was_given_in_earlier_iterations(
    tmp_path: Path, on_disk: bool
) -> None:
    given = [windows(seed=seed) for seed in (1, 2)]
    folder = str(tmp_path) if on_disk else None
    source = replay_source_of(iter([one.clone() for one in given]), folder=folder)
    stored = torch.cat(given)
    seen = set()
    for minibatch in [*source, *source]:
        for window in minibatch.unbind(0):
            same = window.exclude(keys.INDEX, keys.WEIGHT) == stored[int(window[keys.INDEX])]
            assert all(entry.all() for entry in same.values(True, True))
            seen.add(int(window[keys.INDEX]))
    assert min(seen) < NUM_WINDOWS <= max(seen)


def test_priorities_reach_the_windows_that_they_belong_to() -> None:
    given = [windows(seed=seed) for seed in (1, 2)]
    source = replay_source_of(iter(given), priority_exponent=1.0)
    for _ in given:
        source.begin()
    wanted = torch.arange(3, 11)
    source.feedback(torch.arange(2 * NUM_WINDOWS), torch.zeros(2 * NUM_WINDOWS))
    source.feedback(wanted, torch.ones(len(wanted)))
    assert set(source.next()[keys.INDEX].tolist()) <= set(wanted.tolist())


@pytest.mark.parametrize("learner", ["r2d2", "r2d2_ppo"])
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_resumed_run_goes_on_with_what_was_stored(
    tmp_path: Path, learner: str, on_disk: bool
) -> None:
    def run(name: str, *overrides: str) -> Path:
        settings = (*TINY, *UNSEEN, *of_learner(learner), *overrides)
        if on_disk:
            settings += (f"learner.replay.folder={tmp_path / 'buffers'}",)
        return train(compose_config(tmp_path / name, *settings))

    whole = run("whole")
    half = run("half", "trainer.max_epochs=3")
    resumed = run("resumed", f"ckpt_path={half}")
    assert_same_run(whole, resumed)
    stored = [contents(path)["TrialDataModule"]["sources"][0] for path in (whole, resumed, half)]
    assert ("windows" in stored[0]) != on_disk
    assert torch.equal(stored[0]["priorities"], stored[1]["priorities"])
    assert not torch.equal(stored[0]["priorities"], stored[2]["priorities"])
    if on_disk:
        files = [tmp_path / "buffers" / one["files"] for one in stored[:2]]
        for file in files[0].iterdir():
            assert file.read_bytes() == (files[1] / file.name).read_bytes()
    else:
        for name, entry in stored[0]["windows"][keys.WINDOW].items():
            if isinstance(entry, torch.Tensor):
                assert torch.equal(entry, stored[1]["windows"][keys.WINDOW][name]), name


@pytest.mark.parametrize(
    "learner",
    [pytest.param(name, marks=[] if name == "r2d2" else pytest.mark.slow) for name in REPLAYING],
)
def test_two_ranks_have_buffers_of_their_own_and_resume(tmp_path: Path, learner: str) -> None:
    small = [text for text in SMALL if not text.startswith("learner.")]
    given = (*small, *of_learner(learner), *TWO_RANKS)

    def run(name: str, *overrides: str) -> dict[str, Any]:
        done = run_program(tmp_path, *overrides, f"hydra.run.dir={tmp_path / name}")
        assert done.returncode == 0, done.stderr
        return contents(tmp_path / name / "last.ckpt")

    run("half", *given, "trainer.max_epochs=2")
    whole = run("whole", *given, "trainer.max_epochs=4")
    resumed = run("resumed", f"ckpt_path={tmp_path / 'half'}", "trainer.max_epochs=4")
    assert_same_run(*(tmp_path / name / "last.ckpt" for name in ("whole", "resumed")))
    first, second = whole["TrialDataModule"]["sources"]
    for own, theirs in zip((first, second), resumed["TrialDataModule"]["sources"], strict=True):
        assert torch.equal(own["priorities"], theirs["priorities"])
    observed = [one["windows"][keys.WINDOW][keys.ACTION] for one in (first, second)]
    assert not torch.equal(*observed), "each rank has its own trials"
    one = ("trainer.devices=1", "trainer.max_epochs=4")
    line = mistake_told(tmp_path, f"ckpt_path={tmp_path / 'half'}", *one)
    assert "has the replay buffers of 2 device(s), this run has 1: resume on as many" in line
