"""The metric compared to literal loops and numpy, over masks, precisions and ranks."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.evaluation.adaptation_curve import AdaptationCurve, Curve
from rl2_lightning.families.play import episode_returns
from tests.forked import run_ranks

NUM_EPISODES = 4


def uneven_trials(num_trials: int, num_steps: int, seed: int = 0) -> TensorDict:
    """Trials with random episode boundaries and ends, and garbage on the idle tails."""
    generator = torch.Generator().manual_seed(seed)
    ends = torch.rand(num_trials, num_steps, generator=generator) < 0.25
    episode = (ends.long().cumsum(1) - ends.long()).clamp(max=NUM_EPISODES - 1)
    lengths = torch.randint(1, num_steps + 1, (num_trials, 1), generator=generator)
    mask = torch.arange(num_steps) < lengths
    reward = torch.randn(num_trials, num_steps, generator=generator)
    return TensorDict(
        {
            keys.REWARD: reward.masked_fill(~mask, math.nan).unsqueeze(-1),
            keys.EPISODE: episode.masked_fill(~mask, 99).unsqueeze(-1),
            keys.MASK: mask.unsqueeze(-1),
        },
        batch_size=[num_trials, num_steps],
    )


def literal_returns(trials: TensorDict) -> tuple[np.ndarray, np.ndarray]:
    num_trials, num_steps = trials.shape
    returns = np.zeros((num_trials, NUM_EPISODES))
    played = np.zeros((num_trials, NUM_EPISODES), dtype=bool)
    for b in range(num_trials):
        for t in range(num_steps):
            if trials[keys.MASK][b, t, 0]:
                episode = int(trials[keys.EPISODE][b, t, 0])
                returns[b, episode] += float(trials[keys.REWARD][b, t, 0])
                played[b, episode] = True
    return returns, played


def curve_of(returns: torch.Tensor, played: torch.Tensor) -> Curve:
    metric = AdaptationCurve(returns.shape[1])
    metric.update(returns, played)
    return metric.compute()


def test_episode_returns_equal_a_literal_loop():
    trials = uneven_trials(num_trials=17, num_steps=12)
    returns, played = episode_returns(trials, NUM_EPISODES)
    expected_returns, expected_played = literal_returns(trials)
    assert returns.dtype == torch.float32
    np.testing.assert_allclose(returns.numpy(), expected_returns, atol=1e-5)
    np.testing.assert_array_equal(played.numpy(), expected_played)
    assert not played.all()


def test_an_episode_beyond_the_most_is_refused():
    trials = uneven_trials(num_trials=17, num_steps=12)
    with pytest.raises(ValueError, match=r"has 4 episodes, but num_episodes is 3"):
        episode_returns(trials, NUM_EPISODES - 1)


def test_curve_equals_numpy_over_uneven_trials_and_batches():
    trials = uneven_trials(num_trials=50, num_steps=9)
    returns, played = episode_returns(trials, NUM_EPISODES)
    metric = AdaptationCurve(NUM_EPISODES)
    for rows in (slice(0, 7), slice(7, 8), slice(8, 50)):
        metric.update(returns[rows], played[rows])
    curve = metric.compute()
    for episode in range(NUM_EPISODES):
        values = returns[played[:, episode], episode].double().numpy()
        half_width = 1.96 * values.std(ddof=1) / math.sqrt(len(values))
        assert curve.mean[episode].item() == pytest.approx(values.mean())
        assert curve.half_width[episode].item() == pytest.approx(half_width)
    totals = (returns * played).double().sum(1).numpy()
    assert curve.trial_return == pytest.approx(totals.mean())
    assert curve.trial_half_width == pytest.approx(1.96 * totals.std(ddof=1) / math.sqrt(50))
    assert curve.num_trials == 50


def test_what_was_not_measured_is_not_a_number():
    played = torch.tensor([[True, True, False], [True, False, False], [False, False, False]])
    curve = curve_of(torch.ones(3, 3), played)
    assert curve.num_trials == 2
    assert curve.mean[:2].tolist() == [1.0, 1.0]
    assert curve.mean[2].isnan()
    assert curve.half_width.isnan().tolist() == [False, True, True]
    alone = curve_of(torch.ones(1, 2), torch.ones(1, 2, dtype=torch.bool)).to_dict()
    assert alone == {"trial_return": 2.0, "trial_half_width": None, "num_trials": 1}


def test_a_small_spread_on_a_large_mean_is_seen():
    returns = 1e4 + 0.01 * torch.randn(1000, 1, dtype=torch.float64)
    curve = curve_of(returns, torch.ones(1000, 1, dtype=torch.bool))
    expected = 1.96 * returns.std().item() / math.sqrt(1000)
    assert curve.half_width.item() == pytest.approx(expected, rel=1e-3)


def test_a_curve_of_one_episode_keeps_its_shape():
    assert curve_of(torch.ones(5, 1), torch.ones(5, 1, dtype=torch.bool)).mean.shape == (1,)


def test_reset_and_computing_again():
    metric = AdaptationCurve(2)
    everything = torch.ones(3, 2, dtype=torch.bool)
    metric.update(torch.ones(3, 2), everything)
    assert metric.compute() is metric.compute()
    metric.reset()
    metric.update(torch.full((3, 2), 5.0), everything)
    assert metric.compute().trial_return == 10.0
    assert metric.compute().num_trials == 3


def test_precision_of_the_module_leaves_the_sums_alone():
    module = torch.nn.Sequential(AdaptationCurve(1)).to(torch.bfloat16)
    metric = module[0]
    metric.update(torch.full((1000, 1), 1.001), torch.ones(1000, 1, dtype=torch.bool))
    assert metric.totals.dtype == torch.float64
    assert metric.compute().trial_return == pytest.approx(1.001, abs=1e-6)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"returns \[3, 2\] and played \[3, 4\]"):
        AdaptationCurve(4).update(torch.ones(3, 2), torch.ones(3, 4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("trial_return", "half_width", "text"),
    [
        (7.4231, 0.0951, "7.423 ± 0.095"),
        (393.44, 2.71, "393.4 ± 2.7"),
        (2100.4, 40.2, "2100 ± 40"),
        (-1.23456e30, 4.567e29, "-1.235e+30 ± 4.6e+29"),
        (0.0, 4.567e29, "0 ± 4.6e+29"),
    ],
)
def test_the_text_has_two_digits_of_the_interval(trial_return, half_width, text):
    curve = Curve(torch.zeros(1), torch.zeros(1), trial_return, half_width, 10)
    assert curve.trial_text() == text


def test_share_needs_positive_returns():
    player, reference, loser = (
        Curve(torch.zeros(1), torch.zeros(1), trial_return, 0.1, 10)
        for trial_return in (3.0, 4.0, -1.0)
    )
    assert player.share_of(reference) == 0.75
    assert player.share_of(loser) is None
    assert loser.share_of(reference) is None


def uneven_share(rank: int, folder: str) -> None:
    """Act as a rank with 3 of 10 trials, or the other 7, and save its result."""
    torch.set_num_threads(1)
    rendezvous = f"file://{folder}/rendezvous"
    torch.distributed.init_process_group("gloo", rendezvous, rank=rank, world_size=2)
    returns, played = episode_returns(uneven_trials(10, 9), NUM_EPISODES)
    rows = slice(0, 3) if rank == 0 else slice(3, 10)
    metric = AdaptationCurve(NUM_EPISODES)
    metric.update(returns[rows], played[rows])
    curve = metric.compute()
    torch.save((curve.mean, curve.half_width, curve.to_dict()), Path(folder) / f"{rank}.pt")
    alone = AdaptationCurve(NUM_EPISODES, sync_on_compute=False)
    if rank == 0:
        alone.update(returns, played)
        assert alone.compute().num_trials == 10
    torch.distributed.destroy_process_group()


def test_two_ranks_with_uneven_shares_equal_one(tmp_path: Path):
    run_ranks(uneven_share, str(tmp_path))
    whole = curve_of(*episode_returns(uneven_trials(10, 9), NUM_EPISODES))
    for rank in range(2):
        mean, half_width, trial = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(mean, whole.mean, equal_nan=True)
        torch.testing.assert_close(half_width, whole.half_width, equal_nan=True)
        assert trial == pytest.approx(whole.to_dict())
