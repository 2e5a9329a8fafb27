"""Trials to windows, and windows to minibatches."""

import math
from collections.abc import Iterator
from itertools import chain

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from rl2_lightning import keys
from rl2_lightning.collection.stream import TrialStream, cut_windows

NUM_TRIALS, LENGTH = 3, 10
STATE = "shared_memory"


def numbered_trials(mask: torch.Tensor | None = None) -> TensorDict:
    """Trials whose steps carry a number of their own, and whose states carry it, too."""
    number = torch.arange(NUM_TRIALS * LENGTH).view(NUM_TRIALS, LENGTH, 1)
    if mask is None:
        mask = torch.ones_like(number, dtype=torch.bool)
    entries = {
        "number": number,
        keys.MASK: mask,
        STATE: 0.5 + number.unsqueeze(-1).expand(-1, -1, 2, 4),
    }
    return TensorDict(entries, [NUM_TRIALS, LENGTH])


def cut(window: int, burn_in: int = 0, mask: torch.Tensor | None = None) -> TensorDictBase:
    return cut_windows(numbered_trials(mask), window, burn_in, [STATE])


@pytest.mark.parametrize("window", [1, 2, 3, 4, 7, LENGTH])
def test_each_step_is_in_exactly_one_window(window: int) -> None:
    windows = cut(window)
    per_trial = math.ceil(LENGTH / window)
    assert windows.batch_size == (NUM_TRIALS * per_trial,)
    steps = windows[keys.WINDOW]
    assert steps.batch_size == (NUM_TRIALS * per_trial, window)
    counted = steps["number"][steps[keys.MASK]]
    assert counted.tolist() == list(range(NUM_TRIALS * LENGTH))


@pytest.mark.parametrize("window", [3, 5])
def test_steps_of_a_window_follow_one_another(window: int) -> None:
    steps = cut(window)[keys.WINDOW]
    for number, mask in zip(steps["number"], steps[keys.MASK], strict=True):
        counted = number[mask]
        assert (counted.diff() == 1).all()
        assert (counted // LENGTH).unique().numel() == 1, "a window lies in one trial"


def test_the_last_window_is_filled_up_with_masked_steps() -> None:
    steps = cut(4)[keys.WINDOW].view(NUM_TRIALS, 3, 4)
    assert steps[keys.MASK][:, :2].all()
    assert steps[keys.MASK][:, 2].squeeze(-1).tolist() == [[True, True, False, False]] * NUM_TRIALS


def test_idle_steps_stay_masked() -> None:
    mask = torch.arange(LENGTH).view(1, -1, 1) < torch.tensor([10, 5, 1]).view(-1, 1, 1)
    steps = cut(4, mask=mask)[keys.WINDOW]
    counted = steps["number"][steps[keys.MASK]]
    assert counted.tolist() == [*range(10), *range(10, 15), 20]


def test_the_whole_trial_as_one_window_is_masked_as_it_was() -> None:
    trials = numbered_trials()
    windows = cut_windows(trials, LENGTH, 0, [STATE])
    assert (windows[keys.WINDOW]["number"] == trials["number"]).all()
    windows[keys.WINDOW].set(keys.MASK, torch.zeros_like(trials[keys.MASK]))
    assert trials[keys.MASK].all(), "the trials themselves stay as they are"


@pytest.mark.parametrize("window", [2, 4, LENGTH])
def test_states_are_those_collected_at_the_first_step(window: int) -> None:
    windows = cut(window)
    first = windows[keys.WINDOW]["number"][:, 0]
    state = windows[keys.MEMORY_STATE][STATE]
    assert state.shape == (len(windows), 2, 4)
    assert (state == first.view(-1, 1, 1) + 0.5).all()
    assert STATE not in windows[keys.WINDOW].keys(), "the other steps' states would only cost"  # noqa: SIM118


@pytest.mark.parametrize(("window", "burn_in"), [(4, 1), (4, 4), (5, 3), (3, 2)])
def test_burn_in_is_the_steps_before_the_window(window: int, burn_in: int) -> None:
    windows = cut(window, burn_in)
    first = windows[keys.WINDOW]["number"][:, 0, 0]
    starts_trial = first % LENGTH == 0
    has_burn_in = windows[keys.HAS_BURN_IN]
    assert has_burn_in.shape == (len(windows), 1)
    assert (has_burn_in.squeeze(-1) == ~starts_trial).all()
    later = windows[~starts_trial]
    before = later[keys.BURN_IN]["number"].squeeze(-1)
    expected = first[~starts_trial].unsqueeze(1) + torch.arange(-burn_in, 0)
    assert before.tolist() == expected.tolist()
    state = later[keys.BURN_IN_STATE][STATE][:, 0, 0]
    assert (state == expected[:, 0] + 0.5).all()


@pytest.mark.parametrize("window", [3, LENGTH])
def test_each_window_has_the_task_of_its_trial(window: int) -> None:
    tasks = TensorDict({"number": torch.arange(NUM_TRIALS)}, [NUM_TRIALS])
    windows = cut_windows(numbered_trials(), window, 0, [STATE], tasks)
    trial = windows[keys.WINDOW]["number"][:, 0, 0] // LENGTH
    assert windows[keys.TASK]["number"].tolist() == trial.tolist()


def test_what_is_not_asked_for_is_not_there() -> None:
    assert set(cut(4).keys()) == {keys.WINDOW, keys.MEMORY_STATE}


class Collection:
    """Collects windows that carry the number of the collection, and counts."""

    def __init__(self, num_windows: int = 12) -> None:
        self.times = 0
        self.num_windows = num_windows

    def __call__(self) -> TensorDict:
        self.times += 1
        number = torch.arange(self.num_windows) + 1000 * self.times
        window = TensorDict(
            {keys.MASK: torch.ones(self.num_windows, 2, 1, dtype=torch.bool)}, [self.num_windows, 2]
        )
        return TensorDict({keys.WINDOW: window, "number": number}, [self.num_windows])


def make_stream(collection: Collection, **changes: int) -> TrialStream:
    sizes = {"num_epochs": 3, "num_minibatches": 4, **changes}
    return TrialStream(collection, lambda epoch: 100 + epoch, **sizes)


def numbers_of(minibatches: Iterator[TensorDictBase]) -> list[list[int]]:
    return [minibatch["number"].tolist() for minibatch in minibatches]


def test_stream_has_a_length_and_keeps_it() -> None:
    stream = make_stream(Collection())
    minibatches = numbers_of(iter(stream))
    assert len(stream) == len(minibatches) == 3 * 4
    assert {len(minibatch) for minibatch in minibatches} == {3}


def test_each_epoch_is_a_permutation_of_all_windows() -> None:
    minibatches = numbers_of(iter(make_stream(Collection())))
    epochs = [list(chain(*minibatches[start : start + 4])) for start in range(0, 12, 4)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(1000, 1012))
        assert epoch != sorted(epoch)
    assert epochs[0] != epochs[1] != epochs[2]


def test_stream_collects_once_an_iteration_and_only_then() -> None:
    collection = Collection()
    stream = make_stream(collection)
    len(stream)
    minibatches = iter(stream)
    assert collection.times == 0, "nothing is collected before a minibatch is asked for"
    next(minibatches)
    assert collection.times == 1
    list(minibatches)
    assert collection.times == 1
    assert min(chain(*numbers_of(iter(stream)))) == 2000, "the next iteration collects anew"
    assert collection.times == 2


def test_order_follows_from_the_seed() -> None:
    one, two = (numbers_of(iter(make_stream(Collection()))) for _ in range(2))
    assert one == two
    other = TrialStream(Collection(), lambda epoch: 7 + epoch, num_epochs=3, num_minibatches=4)
    assert numbers_of(iter(other)) != one
