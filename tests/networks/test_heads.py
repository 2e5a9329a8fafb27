"""The critic's head: terms in place of a concatenation."""

import pytest
import torch
from tensordict import TensorDict
from torchrl.envs.utils import make_composite_from_td

from rl2_lightning.networks.heads import TimedValue

FEATURES, ELAPSED = torch.randn(4, 5, 8), torch.rand(4, 5, 1)
TASKS = TensorDict(
    {
        "transitions": torch.randn(4, 2, 3),
        "goal": torch.arange(4),
        "maze": TensorDict({"walls": torch.rand(4, 2) < 0.5}, [4]),
    },
    [4],
)


@pytest.mark.parametrize("hidden_sizes", [(), (6,), (6, 5)])
def test_value_is_that_of_the_concatenation(hidden_sizes: tuple[int, ...]) -> None:
    value = TimedValue(8, hidden_sizes, make_composite_from_td(TASKS[0]))
    first = torch.cat([t.weight for t in (value.of_features, value.of_elapsed, value.of_task)], 1)
    # All parameters in the order of their names, as float32.
    tasks = torch.cat(
        [
            TASKS["maze", "walls"].float(),
            TASKS["goal"].float().unsqueeze(1),
            TASKS["transitions"].flatten(1),
        ],
        dim=1,
    )
    joined = torch.cat([FEATURES, ELAPSED, tasks.unsqueeze(1).expand(-1, 5, -1)], dim=-1)
    expected = value.layers(joined @ first.T + value.of_features.bias)
    found = value(FEATURES, ELAPSED, value.task_term(TASKS).unsqueeze(1))
    assert found.shape == (4, 5, 1)
    torch.testing.assert_close(found, expected)


def test_parameters_are_read_in_the_same_order_wherever_they_stand() -> None:
    value = TimedValue(8, (6,), make_composite_from_td(TASKS[0]))
    turned = TensorDict({key: TASKS[key] for key in reversed(list(TASKS.keys()))}, [4])
    assert torch.equal(value.task_term(turned), value.task_term(TASKS))
