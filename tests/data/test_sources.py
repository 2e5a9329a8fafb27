"""Minibatches from windows."""

import weakref
from collections.abc import Iterable
from itertools import chain

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from rl2_lightning import keys
from rl2_lightning.data.sources import OnPolicySource
from rl2_lightning.errors import UserError


class Collection:
    """Counts collections, and returns windows with the number of the collection."""

    def __init__(self, num_windows: int = 12) -> None:
        self.times = 0
        self.num_windows = num_windows

    def __call__(self) -> TensorDict:
        self.times += 1
        number = torch.arange(self.num_windows) + 1000 * self.times
        mask = torch.ones(self.num_windows, 2, 1, dtype=torch.bool)
        window = TensorDict({keys.MASK: mask}, [self.num_windows, 2])
        return TensorDict({keys.WINDOW: window, "number": number}, [self.num_windows])


def make_source(collection: Collection, first_seed: int = 100, **changes: int) -> OnPolicySource:
    sizes = {"num_epochs": 3, "num_minibatches": 4, **changes}
    return OnPolicySource(collection, lambda epoch: first_seed + epoch, **sizes)


def numbers_of(minibatches: Iterable[TensorDictBase]) -> list[list[int]]:
    return [minibatch["number"].tolist() for minibatch in minibatches]


def test_source_has_a_length_and_keeps_it() -> None:
    source = make_source(Collection())
    minibatches = numbers_of(source)
    assert len(source) == len(minibatches) == 3 * 4
    assert {len(minibatch) for minibatch in minibatches} == {3}


def test_each_epoch_is_a_permutation_of_all_windows() -> None:
    minibatches = numbers_of(make_source(Collection()))
    epochs = [list(chain(*minibatches[start : start + 4])) for start in range(0, 12, 4)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(1000, 1012))
        assert epoch != sorted(epoch)
    assert epochs[0] != epochs[1] != epochs[2]


def test_source_collects_once_an_iteration_and_only_then() -> None:
    collection = Collection()
    source = make_source(collection)
    len(source)
    minibatches = iter(source)
    assert collection.times == 0, "nothing is collected before a minibatch is asked for"
    next(minibatches)
    assert collection.times == 1
    list(minibatches)
    assert collection.times == 1
    assert min(chain(*numbers_of(source))) == 2000, "the next iteration collects anew"
    assert collection.times == 2


def test_an_iteration_that_was_left_does_not_reach_into_the_next() -> None:
    source = make_source(Collection())
    whole = numbers_of(make_source(Collection()))
    next(iter(source))
    again = numbers_of(source)
    assert [[number - 1000 for number in minibatch] for minibatch in again] == whole


def test_order_follows_from_the_seed() -> None:
    one, two = (numbers_of(make_source(Collection())) for _ in range(2))
    assert one == two
    assert numbers_of(make_source(Collection(), first_seed=7)) != one


def test_the_windows_of_an_iteration_go_before_the_next_are_collected() -> None:
    kept: list[weakref.ref] = []

    def collect() -> TensorDict:
        assert all(one() is None for one in kept)
        windows = Collection()()
        kept.append(weakref.ref(windows["number"]))
        return windows

    source = OnPolicySource(collect, lambda epoch: epoch, num_epochs=1, num_minibatches=4)
    source.begin()
    assert kept[0]() is not None
    source.begin()
    assert len(kept) == 2


@pytest.mark.parametrize("num_windows", [9, 3, 13])
def test_windows_that_do_not_divide_are_told(num_windows: int) -> None:
    source = make_source(Collection(num_windows))
    told = f"^the {num_windows} windows of an iteration do not divide into 4 minibatches: set coll"
    with pytest.raises(UserError, match=told):
        source.begin()


def test_it_can_be_asked_step_by_step() -> None:
    source = make_source(Collection())
    source.begin()
    asked = [source.next() for _ in range(len(source))]
    assert numbers_of(asked) == numbers_of(make_source(Collection()))


def test_states_that_all_trials_share_are_not_copied_into_minibatches() -> None:
    windows = Collection()()
    own, shared = torch.rand(12, 3), torch.zeros(1, 3).expand(12, 3)
    windows[keys.MEMORY_STATE] = TensorDict({"0": shared, "1": shared}, [12])
    windows[keys.CRITIC_STATE] = TensorDict({"0": shared, "1": own}, [12])
    source = make_source(lambda: windows)
    minibatch = next(iter(source))
    assert keys.MEMORY_STATE not in minibatch.keys()  # noqa: SIM118
    numbers = minibatch["number"] - 1000
    assert torch.equal(minibatch[keys.CRITIC_STATE]["1"], own[numbers])
    assert keys.MEMORY_STATE in source.windows.keys(), "a replay buffer stores them"  # noqa: SIM118
