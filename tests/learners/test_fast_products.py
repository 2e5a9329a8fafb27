"""What learners differentiate twice, or by hand, through the faster matrix products of a CPU."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from rl2_lightning.agents import products
from tests.builders import MEMORIES, corridor_trials, minibatch_of
from tests.learners.meta_gradients import make_meta_learner
from tests.learners.trust_region import direction_of, learner_and_windows, problem_of

pytestmark = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="PyTorch was built without oneDNN"
)
ROWS = 16  # the fewest that sums of outer products are cut into images from


@contextmanager
def by_onednn(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[bool]]:
    """A context in which all products are by oneDNN, which are otherwise only those of many rows.

    It gives the answers to whether a product is one of oneDNN.
    """
    answers: list[bool] = []
    asks = products.prefers_onednn

    def ask(x: Tensor, weight: Tensor) -> bool:
        answers.append(asks(x, weight))
        return answers[-1]

    with monkeypatch.context() as patch:
        patch.setattr(products, "_mkl_leaves_vectors_unused", lambda: True)
        patch.setattr(products, "SMALLEST", 1)
        patch.setattr(products, "FEWEST_ROWS", ROWS)
        patch.setattr(products, "prefers_onednn", ask)
        yield answers


def require_the_same(monkeypatch: pytest.MonkeyPatch, compute: Callable[[], Tensor]) -> None:
    """Check that a vector is the same by oneDNN and by PyTorch's default, within rounding."""
    with torch.backends.mkldnn.flags(enabled=False):
        expected = compute()
    with by_onednn(monkeypatch) as answers:
        found = compute()
    assert any(answers)
    assert expected.any()
    assert_close(found, expected, rtol=1e-3, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("memory", MEMORIES)
def test_derivatives_of_meta_gradients_with_an_embedding(
    monkeypatch: pytest.MonkeyPatch, memory: str
) -> None:
    env = corridor_trials(6)
    learner = make_meta_learner(env, memory=memory, agent={"discount_embedding": 4, "gain": 3})
    windows = minibatch_of(learner, env)
    for number in (0, 1):
        require_the_same(monkeypatch, lambda at=number: learner.inner_derivatives(windows)[at])
    require_the_same(monkeypatch, lambda: learner.outer_gradient(windows))


@pytest.mark.parametrize("memory", MEMORIES)
def test_products_with_the_fisher_matrix(monkeypatch: pytest.MonkeyPatch, memory: str) -> None:
    env = corridor_trials(6)
    learner, windows = learner_and_windows(env, memory, gain=30)
    direction = direction_of(learner)
    require_the_same(
        monkeypatch, lambda: problem_of(learner, windows).fisher_vector_product(direction)
    )
    require_the_same(monkeypatch, lambda: problem_of(learner, windows).gradient())
