"""The scale of the values: it follows the targets, and the length of trials."""

import pytest
import torch

from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.learners.value_scale import ValueScale

MARKS = torch.tensor([-1.0, 0.0, 1.0])


def scale_of(*targets: float, decay: float = 0.0) -> ValueScale:
    scale = ValueScale(decay)
    scale.update(torch.tensor(targets).unsqueeze(1))
    return scale


def test_it_is_mean_and_spread_of_the_targets() -> None:
    scale = scale_of(1.0, 3.0, 5.0)
    spread = (8 / 3) ** 0.5
    torch.testing.assert_close(scale.denormalize(MARKS), 3 + spread * MARKS, rtol=1e-4, atol=0)
    torch.testing.assert_close(scale.normalize(scale.denormalize(MARKS)), MARKS)


def test_the_first_length_changes_nothing() -> None:
    scale = scale_of(1.0, 3.0)
    before = scale.denormalize(MARKS)
    scale.follow(5)
    assert torch.equal(scale.denormalize(MARKS), before)
    assert int(scale.trial_steps) == 5


def test_it_is_stretched_where_trials_become_longer_or_shorter() -> None:
    scale = scale_of(1.0, 3.0, decay=0.9)
    scale.follow(5)
    before = scale.denormalize(MARKS)
    for steps, factor in ((5, 1.0), (15, 3.0), (15, 3.0), (10, 2.0)):
        scale.follow(steps)
        torch.testing.assert_close(scale.denormalize(MARKS), factor * before, rtol=1e-4, atol=0)


def test_it_remembers_the_length_it_was_measured_on() -> None:
    scale, other = scale_of(1.0, 3.0), ValueScale(0.0)
    scale.follow(5)
    other.load_state_dict(scale.state_dict())
    other.follow(10)
    expected = 2 * scale.denormalize(MARKS)
    torch.testing.assert_close(other.denormalize(MARKS), expected, rtol=1e-4, atol=0)


def test_it_sees_that_another_length_was_loaded() -> None:
    scale = scale_of(1.0, 3.0)
    scale.follow(5)
    longer = scale_of(1.0, 3.0)
    longer.follow(10)
    scale.load_state_dict(longer.state_dict())
    before = scale.denormalize(MARKS)
    scale.follow(5)
    torch.testing.assert_close(scale.denormalize(MARKS), before / 2, rtol=1e-4, atol=0)


@pytest.mark.parametrize("target", [1e20, float("inf"), float("nan")])
def test_it_stays_as_it_was_where_targets_overflow(target: float) -> None:
    scale = scale_of(1.0, 3.0)
    before = scale.denormalize(MARKS)
    with pytest.raises(NonFiniteLossError, match="whose square is beyond float32"):
        scale.update(torch.tensor([[1.0], [target]]))
    assert torch.equal(scale.denormalize(MARKS), before)
