"""Credit for trials that an older policy has played."""

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor
from torchrl.objectives.value.functional import vtrace_advantage_estimate

from rl2_lightning import keys
from rl2_lightning.learners.credit import n_step_returns, off_policy_advantages, trial_advantages

NUM, LENGTH = 5, 7
GAMMA, LAMBDA = 0.9, 0.7


def random_steps(num_steps: int = LENGTH, *, continues: bool = False) -> TensorDictBase:
    """Steps of trials that end at different times; a trial that goes on has no end."""
    torch.manual_seed(0)
    ends = torch.tensor([num_steps - 1, 2, 4, 0, num_steps])
    time = torch.arange(num_steps)
    done = (time == ends.unsqueeze(1)).unsqueeze(-1)
    mask = (time <= ends.unsqueeze(1)).unsqueeze(-1)
    reward = torch.randn(NUM, num_steps, 1, dtype=torch.float64) * mask
    terminated = torch.zeros_like(done) if continues else done
    steps = TensorDict({keys.MASK: mask}, [NUM, num_steps])
    for name, entry in ((keys.REWARD, reward), (keys.DONE, done), (keys.TERMINATED, terminated)):
        steps.set(name, entry)
    return steps


def random_values(steps: TensorDictBase, num: int) -> Tensor:
    torch.manual_seed(1)
    values = torch.randn(NUM, num, 1, dtype=torch.float64)
    ended = steps[keys.TERMINATED].cumsum(1).bool()
    for t in range(1, num):
        values[:, t] *= ~ended[:, min(t, steps.shape[1]) - 1]
    return values


def literal_targets(
    steps: TensorDictBase, values: Tensor, weights: Tensor, discount_of_sums: float
) -> Tensor:
    """Equation 1 of arXiv 1802.01561 with sums over k, trial by trial."""
    targets = values[:, :-1].clone()
    for n in range(NUM):
        for s in range(LENGTH):
            factor = 1.0
            for t in range(s, LENGTH):
                done, end = steps[keys.DONE][n, t, 0], steps[keys.TERMINATED][n, t, 0]
                following = 0.0 if end else values[n, t + 1, 0]
                error = steps[keys.REWARD][n, t, 0] + GAMMA * following - values[n, t, 0]
                targets[n, s, 0] += factor * weights[n, t, 0] * error
                factor *= GAMMA * discount_of_sums * weights[n, t, 0]
                if done:
                    break
    return targets


def literal_advantages(
    steps: TensorDictBase, values: Tensor, targets: Tensor, discount_of_sums: float
) -> Tensor:
    """r + γ V' - V, and the later targets' difference from their values, discounted."""
    advantages = torch.zeros_like(targets)
    for n in range(NUM):
        for t in range(LENGTH):
            following, sums = 0.0, 0.0
            if not steps[keys.TERMINATED][n, t, 0]:
                following = values[n, t + 1, 0]
            if not steps[keys.DONE][n, t, 0] and t + 1 < LENGTH:
                sums = targets[n, t + 1, 0] - values[n, t + 1, 0]
            reward, value = steps[keys.REWARD][n, t, 0], values[n, t, 0]
            advantages[n, t, 0] = reward + GAMMA * (following + discount_of_sums * sums) - value
    return advantages


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("gae_lambda", [LAMBDA, 1.0])
@pytest.mark.parametrize("is_v_trace", [False, True])
def test_credit_equals_a_literal_sum(continues: bool, gae_lambda: float, is_v_trace: bool) -> None:
    steps = random_steps(continues=continues)
    values = random_values(steps, LENGTH + 1)
    log_ratios = torch.randn(NUM, LENGTH, 1, dtype=torch.float64)
    advantages, targets = off_policy_advantages(
        steps, values, log_ratios, gamma=GAMMA, gae_lambda=gae_lambda, is_v_trace=is_v_trace
    )
    weights = log_ratios.exp().clamp(max=1)
    expected = literal_targets(steps, values, weights, gae_lambda)
    torch.testing.assert_close(targets, expected)
    decay = 1.0 if is_v_trace else gae_lambda
    torch.testing.assert_close(advantages, literal_advantages(steps, values, expected, decay))


@pytest.mark.parametrize("continues", [False, True])
def test_v_trace_equals_torchrl(continues: bool) -> None:
    steps = random_steps(continues=continues)
    values = random_values(steps, LENGTH + 1)
    log_pi, log_mu = torch.randn(2, NUM, LENGTH, 1, dtype=torch.float64)
    advantages, targets = off_policy_advantages(
        steps, values, log_pi - log_mu, gamma=GAMMA, gae_lambda=1.0, is_v_trace=True
    )
    expected = vtrace_advantage_estimate(
        GAMMA,
        log_pi,
        log_mu,
        values[:, :-1],
        values[:, 1:],
        steps[keys.REWARD],
        steps[keys.DONE],
        steps[keys.TERMINATED],
    )
    # TorchRL's are for a loss that does not multiply them with the ratio.
    weighted = (log_pi - log_mu).exp().clamp(max=1) * advantages
    torch.testing.assert_close((weighted, targets), expected)


def test_on_policy_it_is_generalised_advantage_estimation() -> None:
    steps = random_steps()
    values = random_values(steps, LENGTH + 1)
    values[:, -1] = 0
    sizes = {"gamma": GAMMA, "gae_lambda": LAMBDA}
    found = off_policy_advantages(
        steps, values, torch.zeros(NUM, LENGTH, 1).double(), **sizes, is_v_trace=False
    )
    torch.testing.assert_close(found, trial_advantages(steps, values[:, :-1], **sizes))


@pytest.mark.parametrize("continues", [False, True])
@pytest.mark.parametrize("num_steps", [1, 3])
def test_n_step_returns_equal_a_literal_sum(continues: bool, num_steps: int) -> None:
    steps = random_steps(LENGTH + num_steps, continues=continues)
    values = random_values(steps, LENGTH + num_steps)
    found = n_step_returns(steps, values, gamma=GAMMA, num_steps=num_steps, length=LENGTH)
    for n in range(NUM):
        for t in range(LENGTH):
            if not steps[keys.MASK][n, t]:
                continue
            expected, at = 0.0, t
            for k in range(num_steps):
                expected += GAMMA**k * steps[keys.REWARD][n, at, 0]
                at += 1
                if steps[keys.DONE][n, at - 1]:
                    break
            if not steps[keys.TERMINATED][n, at - 1]:
                expected += GAMMA ** (at - t) * values[n, at, 0]
            assert found[n, t, 0].item() == pytest.approx(float(expected)), (n, t)
