"""The replay buffer stores windows and draws them by priority."""

import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from rl2_lightning import keys
from rl2_lightning.checkpoint import FORMAT, SECTION, Checkpoint, write_checkpoint
from rl2_lightning.data.priority_sampler import PrioritySampler
from rl2_lightning.data.replay import MixedSource, ReplaySource
from rl2_lightning.data.replay_settings import BufferSettings, ReplaySettings
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
    stored = source._buffer[:][keys.MEMORY_STATE]["0"].flatten().long()
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
@pytest.mark.parametrize("on_disk", [False, True])
def test_a_restored_buffer_draws_the_same(tmp_path: Path, iterations: int, on_disk: bool) -> None:
    folder = str(tmp_path) if on_disk else None
    collected = list(zip(range(iterations + 2), endless(), strict=False))
    given = [windows for _, windows in collected]
    source = source_of(iter([one.clone() for one in given]), folder=folder)
    for _ in range(iterations):
        source.begin()
        source.feedback(source.next()[keys.INDEX], torch.rand(5))
    write_checkpoint(as_checkpoint(source.state_dict()), tmp_path / "last.ckpt")
    restored = source_of(iter([one.clone() for one in given[iterations:]]), folder=folder)
    restored.load_state_dict(Checkpoint.read(tmp_path / "last.ckpt").content["source"])
    for _ in range(2):
        source.begin()
        restored.begin()
        for _ in range(3):
            one, other = source.next(), restored.next()
            assert torch.equal(one[keys.INDEX], other[keys.INDEX])
            assert torch.equal(one[keys.WEIGHT], other[keys.WEIGHT])
            assert torch.equal(numbers_in(one), numbers_in(other))


def as_checkpoint(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint with nothing but the state of a source."""
    return {"state_dict": {}, SECTION: {"format": FORMAT}, "source": state}


def test_the_two_latest_copies_are_kept(tmp_path: Path) -> None:
    source = source_of(folder=str(tmp_path))
    names = []
    for _ in range(3):
        source.begin()
        names.append(source.state_dict()["files"])
        assert source.state_dict()["files"] == names[-1], "it is not written again"
    assert len(set(names)) == 3
    kept = {path.name for path in tmp_path.iterdir() if path.name.startswith("replay-")}
    assert kept == set(names[1:])


def test_copies_that_are_gone_or_cut_are_refused(tmp_path: Path) -> None:
    source = source_of(folder=str(tmp_path / "buffer"))
    source.begin()
    state = source.state_dict()
    copy = tmp_path / "buffer" / state["files"]

    def error(folder: str, **changes: Any) -> str:
        restored = source_of(folder=str(tmp_path / folder))
        restored.load_state_dict({**state, **changes})
        with pytest.raises(UserError) as told:
            restored.begin()
        return str(told.value)

    assert "is not in learner.replay.folder=" in error("elsewhere")
    assert "is not in learner.replay.folder=" in error("buffer", files=f"../buffer/{copy.name}")
    assert "does not fit learner.replay" in error("buffer", num_windows=10**9)
    with (copy / "0.bytes").open("ab") as file:
        file.write(b"!")
    assert "does not have" in error("buffer")


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
    "no count": lambda state: without(state, "num_stored"),
    "files": lambda state: {**state, "files": "replay-0", "num_windows": 2},
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
    with pytest.raises(UserError, match=r" of .*batch_size=5 windows: set .*capacity=5 or more$"):
        source_of(capacity=4)
    told = r"^an iteration has 6 windows .*capacity=5 leaves room .*: set .*capacity=6 or more, or "
    with pytest.raises(UserError, match=told):
        source_of(capacity=5).begin()
    settings = make_settings(ReplaySettings, {"capacity": 10, "batch_size": 5})
    told = r" than the windows .* num_trials=12 trials: set learner.replay.capacity=12 or more$"
    with pytest.raises(UserError, match=told):
        settings.check_run({"first.num_trials": 11, "num_trials": 12}, 1)
    with pytest.raises(UserError, match=r"GiB on this machine, and memory has .* GiB: lower it$"):
        source_of(capacity=10**12).begin()
    with pytest.raises(UserError, match=rf"and {tmp_path} has .* GiB: lower it$"):
        source_of(capacity=10**13, folder=str(tmp_path)).begin()


def test_the_buffers_of_a_machine_share_its_memory() -> None:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    capacity = int(0.7 * memory / (numbered(0).bytes() / NUM))
    for num_local_ranks in (1, 2):
        source = ReplaySource(
            lambda: numbered(0),
            lambda draw: draw,
            make_settings(ReplaySettings, {"capacity": 2 * capacity}),
            num_minibatches=1,
            num_ranks=2,
            num_local_ranks=num_local_ranks,
        )
        with nullcontext() if num_local_ranks == 1 else pytest.raises(UserError, match="lower it"):
            source._make_buffer(numbered(0))


def test_windows_without_steps_are_left_out() -> None:
    windows = numbered(0)
    windows[keys.WINDOW][keys.MASK][2:4] = False
    source = source_of(iter([windows]), batch_size=20)
    source.begin()
    assert set(numbers_in(source.next()).tolist()) <= {0, 1, 4, 5}
    assert len(source._buffer) == NUM - 2


def test_a_sampler_without_priorities_draws_uniformly() -> None:
    sampler = PrioritySampler(10, 0.0, 0.6)
    sampler.extend(torch.arange(10))
    sampler.update_priority(torch.arange(5), torch.arange(5).float())
    sampler._rng = torch.Generator().manual_seed(0)
    index, info = sampler.sample(range(10), 5000)
    counts = torch.bincount(index)
    assert chi_square(counts, counts.float().mean()) < 27.9  # 99.9 % with 9 degrees of freedom
    assert (info[keys.WEIGHT] == 1).all()
