"""The replay buffer stores windows and draws them by priority."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from rl2_lightning import keys
from rl2_lightning.data.priority_sampler import PrioritySampler
from rl2_lightning.data.replay import BufferSettings, MixedSource, ReplaySettings, ReplaySource
from rl2_lightning.data.sources import OnPolicySource
from rl2_lightning.errors import UserError
from rl2_lightning.settings import make_settings

NUM, WINDOW = 6, 3


def numbered(first: int, num: int = NUM, window: int = WINDOW) -> TensorDict:
    """Windows with their numbers in all entries."""
    number = torch.arange(first, first + num)
    steps = number.view(-1, 1, 1).expand(num, window, 1)
    entries = {keys.MASK: torch.ones(num, window, 1, dtype=torch.bool), "number": steps.clone()}
    return TensorDict(
        {
            keys.WINDOW: TensorDict(entries, [num, window]),
            keys.FOLLOWING: TensorDict(entries, [num, window])[:, :1],
            keys.MEMORY_STATE: TensorDict({"0": number.float().unsqueeze(-1)}, [num]),
        },
        [num],
    )


def endless() -> Iterator[TensorDict]:
    first = 0
    while True:
        yield numbered(first)
        first += NUM


def source_of(collected: Iterator[TensorDictBase] | None = None, **settings: Any) -> ReplaySource:
    collected = endless() if collected is None else collected
    sizes = {"capacity": 4 * NUM, "batch_size": 5, **settings}
    return ReplaySource(
        lambda: next(collected),
        lambda draw: 100 + draw,
        make_settings(ReplaySettings, sizes),
        num_minibatches=3,
    )


def numbers_in(minibatch: TensorDictBase) -> torch.Tensor:
    """The numbers of the windows, the same in all entries."""
    number = minibatch[keys.WINDOW]["number"]
    assert (number == number[:, :1]).all()
    assert (minibatch[keys.FOLLOWING]["number"] == number[:, :1]).all()
    assert torch.equal(minibatch[keys.MEMORY_STATE]["0"].long(), number[:, 0])
    return number[:, 0, 0]


def chi_square(counts: torch.Tensor, expected: torch.Tensor) -> float:
    return float(((counts - expected).square() / expected).sum())


@pytest.mark.parametrize("on_disk", [False, True])
def test_the_oldest_windows_are_overwritten(tmp_path: Path, on_disk: bool) -> None:
    source = source_of(folder=str(tmp_path / "buffer") if on_disk else None)
    assert len(source) == 3
    for _ in range(6):
        drawn = [numbers_in(minibatch) for minibatch in source]
    stored = source.state_dict()["windows"][keys.MEMORY_STATE]["0"].flatten().long()
    assert sorted(stored.tolist()) == list(range(2 * NUM, 6 * NUM))
    assert torch.cat(drawn).min() >= 2 * NUM
    assert any((tmp_path / "buffer").rglob("*.memmap")) == on_disk


def test_frequencies_match_the_weights() -> None:
    source = source_of(batch_size=2000, capacity=2000, priority_exponent=0.5)
    source.begin()
    priorities = torch.tensor([1.0, 2.0, 0.5, 4.0, 0.1, 3.0])
    source.feedback(torch.arange(NUM), priorities)
    drawn = torch.cat([source.next()[keys.INDEX] for _ in range(5)])
    shares = priorities.sqrt() / priorities.sqrt().sum()
    counts = torch.bincount(drawn, minlength=NUM)
    assert chi_square(counts, shares * len(drawn)) < 20.5  # 99.9 % with 5 degrees of freedom


def test_importance_weights_correct_for_the_priorities() -> None:
    source = source_of(batch_size=4000, capacity=4000, importance_exponent=1.0)
    source.begin()
    source.feedback(torch.arange(NUM), torch.tensor([1.0, 2.0, 0.5, 4.0, 0.3, 3.0]))
    minibatch = source.next()
    weight, number = minibatch[keys.WEIGHT], numbers_in(minibatch)
    assert weight.max() == 1
    total = torch.zeros(NUM).index_add(0, number, weight)
    torch.testing.assert_close(total / total.sum(), torch.full((NUM,), 1 / NUM), atol=0.02, rtol=0)


def test_priorities_reach_the_right_windows() -> None:
    source = source_of(priority_exponent=1.0)
    for _ in range(3):
        source.begin()
    minibatch = source.next()
    source.feedback(torch.arange(3 * NUM), torch.zeros(3 * NUM))
    chosen = minibatch[keys.INDEX][0]
    source.feedback(chosen.unsqueeze(0), torch.tensor([1.0]))
    again = source.next()
    assert (again[keys.INDEX] == chosen).all()
    assert (numbers_in(again) == numbers_in(minibatch)[0]).all()


def test_new_windows_get_the_largest_priority() -> None:
    source = source_of()
    source.begin()
    source.feedback(torch.arange(NUM), torch.linspace(1, 7, NUM))
    source.begin()
    assert source.state_dict()["priorities"][NUM : 2 * NUM].tolist() == [7.0] * NUM


def test_priorities_mix_the_largest_and_the_mean_error() -> None:
    settings = make_settings(ReplaySettings, {"max_share": 0.75})
    errors = torch.tensor([[1.0, 3.0, 50.0], [2.0, 2.0, 2.0], [9.0, 9.0, 9.0]])
    mask = torch.tensor([[True, True, False], [True, True, True], [False] * 3])
    found = settings.priorities(errors, mask)
    assert found.tolist() == pytest.approx([0.75 * 3 + 0.25 * 2, 2.0, 0.0])


@pytest.mark.parametrize("iterations", [2, 6])
def test_a_restored_buffer_draws_the_same(iterations: int) -> None:
    collected = list(zip(range(iterations + 2), endless(), strict=False))
    given = [windows for _, windows in collected]
    source = source_of(iter([one.clone() for one in given]))
    for _ in range(iterations):
        source.begin()
        source.feedback(source.next()[keys.INDEX], torch.rand(5))
    restored = source_of(iter([one.clone() for one in given[iterations:]]))
    restored.load_state_dict(source.state_dict())
    for _ in range(2):
        source.begin()
        restored.begin()
        for _ in range(3):
            one, other = source.next(), restored.next()
            assert torch.equal(one[keys.INDEX], other[keys.INDEX])
            assert torch.equal(one[keys.WEIGHT], other[keys.WEIGHT])
            assert torch.equal(numbers_in(one), numbers_in(other))


def without(state: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: value for key, value in state.items() if key != name}


DAMAGES = {
    "no windows": lambda state: without(state, "windows"),
    "windows without steps": lambda state: {**state, "windows": {}},
    "no priorities": lambda state: without(state, "priorities"),
    "another capacity": lambda state: {**state, "priorities": torch.ones(7)},
    "negative priorities": lambda state: {**state, "priorities": -state["priorities"]},
    "no place": lambda state: {**state, "next": {}},
    "a place outside": lambda state: {**state, "next": {"_cursor": 10**6}},
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_state_is_refused(damage: str) -> None:
    source = source_of()
    source.begin()
    restored = source_of()
    restored.load_state_dict(DAMAGES[damage](source.state_dict()))
    with pytest.raises(UserError, match=r"^the checkpoint's replay buffer does not fit .* damaged"):
        restored.begin()


def test_windows_of_another_length_empty_the_buffer() -> None:
    source = source_of(iter([numbered(0), numbered(NUM, window=5), numbered(2 * NUM, window=5)]))
    source.begin()
    for expected in (NUM, 2 * NUM):
        source.begin()
        stored = source.state_dict()["windows"][keys.MEMORY_STATE]["0"]
        assert len(stored) == expected
        assert stored.min() == NUM


def test_replayed_minibatches_are_spread_between_fresh_ones() -> None:
    collected = endless()
    fresh = OnPolicySource(
        lambda: next(collected), lambda epoch: epoch, num_epochs=1, num_minibatches=6
    )
    # Both have the same windows.
    source = MixedSource(fresh, source_of(iter(lambda: fresh.windows, None)))
    assert len(source) == 9
    for _ in range(2):
        kinds = ["r" if keys.INDEX in one.keys() else "f" for one in source]  # noqa: SIM118
        assert "".join(kinds) == "ffrffrffr"


def test_a_buffer_without_priorities_draws_uniformly_and_resumes() -> None:
    settings = make_settings(BufferSettings, {"capacity": 4 * NUM, "batch_size": 20})

    def make(collected: Iterator[TensorDictBase]) -> ReplaySource:
        return ReplaySource(
            lambda: next(collected), lambda draw: draw, settings, num_minibatches=100
        )

    source = make(endless())
    for _ in range(3):
        minibatches = list(source)
    counts = torch.bincount(torch.cat([numbers_in(one) for one in minibatches]))
    assert len(counts) == 3 * NUM
    assert chi_square(counts, counts.float().mean()) < 40.8  # 99.9 % with 17 degrees of freedom
    assert all((one[keys.WEIGHT] == 1).all() for one in minibatches)
    resumed = make(iter([numbered(3 * NUM)]))
    resumed.load_state_dict(source.state_dict())
    for mine, theirs in zip(source, resumed, strict=True):
        assert torch.equal(numbers_in(mine), numbers_in(theirs))


def test_what_does_not_fit(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^learner.replay.capacity=4 is less than a minibatch of "):
        source_of(capacity=4)
    with pytest.raises(UserError, match=r"^an iteration has 6 windows .*capacity=5 leaves room "):
        source_of(capacity=5).begin()
    with pytest.raises(UserError, match=r"GiB for each device, and memory has .* GiB: lower it$"):
        source_of(capacity=10**12).begin()
    with pytest.raises(UserError, match=rf"and {tmp_path} has .* GiB: lower it$"):
        source_of(capacity=10**13, folder=str(tmp_path)).begin()


def test_a_sampler_without_priorities_draws_uniformly() -> None:
    sampler = PrioritySampler(10, 0.0, 0.6)
    sampler.extend(torch.arange(10))
    sampler.update_priority(torch.arange(5), torch.arange(5).float())
    sampler._rng = torch.Generator().manual_seed(0)
    index, info = sampler.sample(range(10), 5000)
    counts = torch.bincount(index)
    assert chi_square(counts, counts.float().mean()) < 27.9  # 99.9 % with 9 degrees of freedom
    assert (info[keys.WEIGHT] == 1).all()
