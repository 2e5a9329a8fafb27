"""What a source hands out is what it was given."""

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.data.sources import OnPolicySource
from rl2_lightning.data.windows import cut_windows
from tests.builders import bandit_trials, collect, make_agent, make_learner, starts_of

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


@pytest.mark.parametrize("with_feedback", [False, True])
@pytest.mark.parametrize("sizes", [{}, {"num_epochs": 1}, {"num_minibatches": 16}], ids=str)
def test_replay_keeps_what_it_was_given(sizes: dict[str, int], with_feedback: bool) -> None:
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
            if with_feedback:
                # It has no use for priorities, and takes no harm from them.
                source.feedback(minibatch["number"], torch.rand(len(minibatch)))
        assert times == dict.fromkeys(range(NUM_WINDOWS), num_epochs)
