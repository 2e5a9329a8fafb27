"""Policies: bounds and dtypes of actions, and unsupported action spaces."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Categorical

from rl2_lightning.agents.categorical import FEW, LogitCategorical, log_softmax
from rl2_lightning.agents.policies import (
    LARGEST_LOC,
    LARGEST_SCALE,
    SMALLEST_SCALE,
    Policy,
    SquashedNormalPolicy,
    make_policy,
    policy_layers,
)
from rl2_lightning.agents.spaces import Actions, Box, Discrete, MultiDiscrete
from rl2_lightning.agents.squashed_normal import SquashedNormal
from rl2_lightning.errors import UserError

LOW, HIGH = (-0.5, 1.0, -3.0), (0.5, 4.0, -2.0)
BOX = Box((3,), low=LOW, high=HIGH)


def with_outputs(policy: SquashedNormalPolicy, outputs: Tensor) -> SquashedNormal:
    """The distributions for these outputs of the layers."""
    policy.layers = nn.Identity()
    distribution = policy(outputs)
    assert isinstance(distribution, SquashedNormal)
    return distribution


def test_nothing_overflows_at_the_bounds() -> None:
    extremes = torch.tensor([-1e6, -30.0, 0.0, 30.0, 1e6])
    outputs = torch.cartesian_prod(extremes, extremes).repeat_interleave(3, 0).requires_grad_()
    policy = SquashedNormalPolicy(Box((1,), low=(-0.1,), high=(0.1,)), nn.Identity())
    distribution = with_outputs(policy, outputs)
    largest = torch.tensor(0.1)
    actions = torch.stack([-largest, torch.tensor(0.0), largest]).repeat(25).unsqueeze(-1)
    log_probs = distribution.log_prob(actions)
    assert log_probs.isfinite().all()
    assert distribution.entropy().isfinite().all()
    (log_probs.sum() + distribution.entropy().sum()).backward()
    assert outputs.grad is not None
    assert outputs.grad.isfinite().all()
    # Both sampled and greedy actions are within the bounds.
    for greedy in (False, True):
        action, log_prob = policy.act(outputs.repeat(100, 1), greedy=greedy, generator=None)
        assert (action.abs() <= 0.1).all()
        assert log_prob.isfinite().all()


def test_parameters_stay_in_their_ranges_and_start_nearly_uniform() -> None:
    policy = SquashedNormalPolicy(BOX, nn.Identity())
    torch.manual_seed(0)
    wild = with_outputs(policy, 1e3 * torch.randn(100, 6))
    assert wild.loc.abs().max().item() == pytest.approx(LARGEST_LOC)
    assert wild.scale.min().item() == pytest.approx(SMALLEST_SCALE)
    assert wild.scale.max().item() == pytest.approx(LARGEST_SCALE)
    assert torch.equal(policy.centre, torch.tensor([0.0, 2.5, -2.5]))
    assert torch.equal(policy.half_width, torch.tensor([0.5, 1.5, 0.5]))
    # The entropy of a uniform choice is the logarithm of the volume.
    first = with_outputs(policy, torch.zeros(6))
    assert math.log(3) - 0.1 < first.entropy().item() < math.log(3)


@pytest.mark.parametrize("greedy", [False, True])
def test_actions_are_float32_under_every_precision(greedy: bool) -> None:
    policy = make_policy(BOX, policy_layers(4, (5,)))
    with torch.autocast("cpu", torch.bfloat16):
        action, log_prob = policy.act(torch.randn(7, 4), greedy=greedy, generator=None)
    assert action.dtype == log_prob.dtype == torch.float32
    assert action.shape == (7, 3)
    assert log_prob.shape == (7,)


@pytest.mark.parametrize("greedy", [False, True])
def test_discrete_actions_are_whole_numbers(greedy: bool) -> None:
    policy = make_policy(Discrete(3), policy_layers(4, (5,)))
    with torch.autocast("cpu", torch.bfloat16):
        action, log_prob = policy.act(torch.randn(7, 4), greedy=greedy, generator=None)
    assert (action.dtype, log_prob.dtype) == (torch.int64, torch.float32)
    assert action.shape == log_prob.shape == (7,)


def test_several_discrete_numbers_are_independent() -> None:
    policy = make_policy(MultiDiscrete((3, 1, 2)), policy_layers(4, ()))
    policy.layers = nn.Identity()
    logits = torch.randn(5, 6)
    alone = [torch.distributions.Categorical(logits=part) for part in logits.split([3, 1, 2], -1)]
    together = policy(logits)
    torch.testing.assert_close(together.entropy(), sum(one.entropy() for one in alone))
    for greedy in (False, True):
        action, log_prob = policy.act(logits, greedy=greedy, generator=None)
        assert action.dtype == torch.int64
        assert (action < torch.tensor([3, 1, 2])).all()
        expected = sum(one.log_prob(a) for one, a in zip(alone, action.unbind(-1), strict=True))
        torch.testing.assert_close(log_prob, expected)
        torch.testing.assert_close(together.log_prob(action), expected)
    assert torch.equal(action, torch.stack([one.logits.argmax(-1) for one in alone], -1))


def test_values_that_are_not_there_change_no_derivative() -> None:
    logits = torch.randn(4, 5, requires_grad=True)
    policy = make_policy(MultiDiscrete((3, 2)), policy_layers(4, ()))
    policy.layers = nn.Identity()
    divergence = torch.distributions.kl_divergence(policy(logits.detach()), policy(logits)).sum()
    (gradient,) = torch.autograd.grad(divergence, logits, create_graph=True)
    vector = torch.randn(4, 5)
    (product,) = torch.autograd.grad((gradient * vector).sum(), logits)
    # The Fisher matrix of a categorical distribution: diag(p) - p pᵀ.
    expected = []
    for part, v in zip(logits.split([3, 2], -1), vector.split([3, 2], -1), strict=True):
        p = part.detach().softmax(-1)
        expected.append(p * v - p * (p * v).sum(-1, keepdim=True))
    torch.testing.assert_close(product, torch.cat(expected, -1))


CHOICES = [Discrete(3), MultiDiscrete((3, 2)), BOX]


@pytest.mark.parametrize("actions", CHOICES, ids=["discrete", "several", "continuous"])
def test_what_is_drawn_follows_the_distribution(actions: Actions) -> None:
    torch.manual_seed(0)
    policy: Policy = make_policy(actions, policy_layers(4, ()))
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    features = torch.randn(1, 4).expand(100_000, 4)
    action, _ = policy.act(features, greedy=False, generator=torch.Generator().manual_seed(0))
    expected = policy(features[0]).sample((100_000,))
    if isinstance(actions, Discrete):
        action, expected = (nn.functional.one_hot(one, 3).float() for one in (action, expected))
    action, expected = action.float(), expected.float()
    error = 5 * (2 / 100_000) ** 0.5 * expected.std(0)
    assert ((action.mean(0) - expected.mean(0)).abs() < error).all()
    torch.testing.assert_close(action.std(0), expected.std(0), rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        (Box((2,)), r"actions of shape \[2\] without finite bounds have no policy: use discrete"),
        (Box((2,), low=(-1, -1), high=(1, math.inf)), r"actions of shape \[2\] without finite"),
        (Box((2, 3), low=(-1,) * 6, high=(1,) * 6), r"actions of shape \[2, 3\] without"),
    ],
    ids=str,
)
def test_actions_without_a_policy(actions: Actions, told: str) -> None:
    with pytest.raises(UserError, match=told):
        make_policy(actions, policy_layers(4, ()))


@pytest.mark.parametrize("num", [1, 5, FEW + 1])
def test_categories_are_those_of_pytorch(num: int) -> None:
    logits = (4 * torch.randn(6, num)).requires_grad_()
    own, theirs = LogitCategorical(logits), Categorical(logits=logits)
    action = torch.arange(6) % num
    answers = zip(
        (own.probs, own.log_prob(action), own.entropy(), own.expand([2, 6]).logits),
        (theirs.probs, theirs.log_prob(action), theirs.entropy(), theirs.expand([2, 6]).logits),
        strict=True,
    )
    for found, expected in answers:
        torch.testing.assert_close(found, expected)
        pair = (
            torch.autograd.grad(one.square().sum(), logits, retain_graph=True)
            for one in (found, expected)
        )
        torch.testing.assert_close(*pair)


@pytest.mark.parametrize("shape", [(5,), (4, 5), (2, 3, 4, FEW + 1)])
def test_log_softmax_is_that_of_pytorch(shape: tuple[int, ...]) -> None:
    logits = torch.randn(shape)
    torch.testing.assert_close(log_softmax(logits), torch.log_softmax(logits, dim=-1))
