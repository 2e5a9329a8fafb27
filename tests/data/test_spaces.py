"""Agents' spaces from TorchRL's specs."""

import pytest
import torch
from torchrl.data import Bounded, Categorical, Composite, MultiCategorical, TensorSpec, Unbounded

from rl2_lightning.agents.spaces import Actions, Box, Discrete, MultiDiscrete, Observations
from rl2_lightning.data.spaces import actions_of, observations_of
from rl2_lightning.errors import UserError

IMAGE = Bounded(0, 255, (3, 8, 9), dtype=torch.uint8)


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Unbounded((2,)), Box((2,))),
        (Bounded(-1, 2, (2,)), Box((2,), low=(-1.0, -1.0), high=(2.0, 2.0))),
        (IMAGE, Box((3, 8, 9), "uint8")),
        (
            Composite({"view": IMAGE, "place": Unbounded((2,))}),
            {"place": Box((2,)), "view": Box((3, 8, 9), "uint8")},
        ),
    ],
    ids=["vector", "bounded", "image", "several"],
)
def test_observations(spec: TensorSpec, expected: Observations) -> None:
    assert observations_of(spec) == expected


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (Categorical(4), Discrete(4)),
        (MultiCategorical([3, 2]), MultiDiscrete((3, 2))),
        (
            Bounded(torch.tensor([-1.0, 0]), torch.tensor([1.0, 2]), (2,)),
            Box((2,), low=(-1.0, 0.0), high=(1.0, 2.0)),
        ),
    ],
    ids=["discrete", "several discrete", "continuous"],
)
def test_actions(spec: TensorSpec, expected: Actions) -> None:
    assert actions_of(spec) == expected


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.bool])
def test_numbers_of_another_kind(dtype: torch.dtype) -> None:
    spec = Composite({"a": Unbounded((2,), dtype=dtype)})
    told = rf"^Unbounded\w* of dtype {str(dtype)[6:]} is not supported: use one of float32, uint8"
    with pytest.raises(UserError, match=told):
        observations_of(spec)
