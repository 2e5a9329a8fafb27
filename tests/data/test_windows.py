"""Windows from trials."""

import math

import pytest
import torch
from tensordict import TensorDict, TensorDictBase

from rl2_lightning import keys
from rl2_lightning.data.windows import (
    as_tensordict,
    cut_windows,
    inputs_of,
    state_of,
    state_steps,
    window_starts,
)
from rl2_lightning.inputs import Inputs

NUM_TRIALS, LENGTH = 3, 10
STATES = (keys.MEMORY_STATE, keys.CRITIC_STATE)


def numbered_trials(
    window: int = LENGTH, burn_in: int = 0, mask: torch.Tensor | None = None, extra: int = 0
) -> TensorDict:
    """Trials with numbered steps, and states with the same numbers."""
    number = torch.arange(NUM_TRIALS * LENGTH).view(NUM_TRIALS, LENGTH, 1)
    if mask is None:
        mask = torch.ones_like(number, dtype=torch.bool)
    number = torch.cat([number, torch.full((NUM_TRIALS, extra, 1), -1)], 1)
    mask = torch.cat([mask, torch.zeros(NUM_TRIALS, extra, 1, dtype=torch.bool)], 1)
    steps = TensorDict({"number": number, keys.MASK: mask}, number.shape[:2])
    kept = 0.5 + number[:, state_steps(LENGTH, window, burn_in)].unsqueeze(-1)  # [B, K, 1, 1]
    tensors = {"0": kept.expand(-1, -1, 2, 4), "1": -kept}
    states = {name: TensorDict(tensors, kept.shape[:2]) for name in STATES}
    task = TensorDict({"number": torch.arange(NUM_TRIALS)}, [NUM_TRIALS])
    return TensorDict({keys.STEPS: steps, keys.TASK: task, **states}, [NUM_TRIALS])


def cut(window: int, burn_in: int = 0, mask: torch.Tensor | None = None) -> TensorDictBase:
    return cut_windows(numbered_trials(window, burn_in, mask), LENGTH, window, burn_in)


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


@pytest.mark.parametrize("window", [4, LENGTH])
def test_steps_after_the_trial_count_in_no_window(window: int) -> None:
    trials = numbered_trials(window, extra=1)
    steps = cut_windows(trials, LENGTH, window, 0)[keys.WINDOW]
    counted = steps["number"][steps[keys.MASK]]
    assert counted.tolist() == list(range(NUM_TRIALS * LENGTH))


@pytest.mark.parametrize("window", [4, LENGTH])
def test_the_step_after_a_trial_follows_its_last_step(window: int) -> None:
    trials = numbered_trials(window, extra=1)
    windows = cut_windows(trials, LENGTH, window, 0, (), 1)
    parts = [windows[key]["number"].flatten(1) for key in (keys.WINDOW, keys.FOLLOWING)]
    last = torch.cat(parts, dim=1).view(NUM_TRIALS, -1, window + 1)[:, -1]
    num_in_last = LENGTH - (LENGTH - 1) // window * window
    assert (last[:, num_in_last - 1] >= 0).all()
    assert (last[:, num_in_last] == trials[keys.STEPS]["number"].flatten(1)[:, LENGTH]).all()
    assert (last[:, num_in_last] < 0).all()


def test_the_whole_trial_as_one_window_is_masked_as_it_was() -> None:
    trials = numbered_trials()
    windows = cut_windows(trials, LENGTH, LENGTH, 0)
    assert (windows[keys.WINDOW]["number"] == trials[keys.STEPS, "number"]).all()
    windows[keys.WINDOW].set(keys.MASK, torch.zeros_like(trials[keys.STEPS, keys.MASK]))
    assert trials[keys.STEPS, keys.MASK].all(), "the trials themselves stay as they are"


@pytest.mark.parametrize("window", [2, 4, LENGTH])
@pytest.mark.parametrize("name", STATES)
def test_states_are_those_before_the_first_step(name: str, window: int) -> None:
    windows = cut(window)
    first = windows[keys.WINDOW]["number"][:, 0].float()
    one, other = state_of(windows[name])
    assert one.shape == (len(windows), 2, 4)
    assert (one == first.view(-1, 1, 1) + 0.5).all()
    assert (other == -first.view(-1, 1, 1) - 0.5).all()


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
    # The states are those at the start of the burn-in.
    for name in STATES:
        state = later[name]["0"][:, 0, 0]
        assert (state == expected[:, 0] + 0.5).all()


@pytest.mark.parametrize("window", [3, LENGTH])
def test_each_window_has_the_task_of_its_trial(window: int) -> None:
    windows = cut_windows(numbered_trials(window), LENGTH, window, 0, [keys.TASK])
    trial = windows[keys.WINDOW]["number"][:, 0, 0] // LENGTH
    assert windows[keys.TASK]["number"].tolist() == trial.tolist()


def test_what_is_not_asked_for_is_not_there() -> None:
    assert set(cut(4).keys()) == {keys.WINDOW, *STATES}
    trials = numbered_trials(4).exclude(keys.CRITIC_STATE)
    assert set(cut_windows(trials, LENGTH, 4, 0).keys()) == {keys.WINDOW, keys.MEMORY_STATE}


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ((10, 10, 0), [0]),
        ((10, 4, 0), [0, 4, 8]),
        ((10, 4, 3), [0, 1, 5]),
        ((10, 5, 5), [0, 0]),
        ((3, 1, 1), [0, 0, 1]),
    ],
)
def test_where_states_are_kept(sizes: tuple[int, int, int], expected: list[int]) -> None:
    assert state_steps(*sizes) == expected
    assert list(window_starts(*sizes[:2])) == list(range(0, sizes[0], sizes[1]))


def test_states_by_number() -> None:
    state = tuple(torch.full((3, 2), float(number)) for number in range(12))
    packed = as_tensordict(state, [3])
    assert packed.batch_size == (3,)
    for found, expected in zip(state_of(packed), state, strict=True):
        assert torch.equal(found, expected)


def test_inputs_are_read_by_their_names() -> None:
    entries = {name: torch.full((2, 1), float(n)) for n, name in enumerate(Inputs._fields)}
    entries[keys.OBSERVATION] = TensorDict({"a": torch.ones(2, 1), "b": torch.zeros(2, 1)}, [2])
    inputs = inputs_of(TensorDict(entries, [2]))
    assert [entry[0].item() for entry in inputs[1:]] == [1, 2, 3, 4]
    assert isinstance(inputs.observation, dict)
    assert inputs.observation.keys() == {"a", "b"}
