"""PPO: the terms of its loss, and its early stop."""

from copy import deepcopy
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.ppo import PPO
from tests.builders import (
    collect,
    corridor_trials,
    gradients,
    make_agent,
    make_learner,
    minibatch_of,
    point_trials,
    run_shape,
)
from tests.short_fit import fit


def moved_learner(**changes: object) -> tuple[PPO, TensorDictBase, TensorDictBase]:
    """A learner whose weights have moved since collection; its minibatch and the steps in it."""
    env = corridor_trials(20)
    learner = make_learner(make_agent(env), env, **changes)
    minibatch = minibatch_of(learner, env)
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in learner.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        steps = learner.lined_up_steps(minibatch)
    return learner, minibatch, steps


def noted(learner: PPO, minibatch: TensorDictBase) -> dict[str, Tensor]:
    """The diagnostics of one minibatch."""
    learner._diagnostics.clear()
    learner.training_step(minibatch, 0)
    return {name: values[0] for name, values in learner._diagnostics.items()}


@pytest.mark.parametrize("value_clip", [None, 0.1, 100.0])
def test_value_loss_is_clipped_as_configured(value_clip: float | None) -> None:
    learner, minibatch, steps = moved_learner(value_clip=value_clip)
    old, target = steps[keys.OLD_STATE_VALUE], steps[keys.VALUE_TARGET]
    value = steps[keys.STATE_VALUE]
    expected = (value - target).square()
    if value_clip is not None:
        clipped = old + (value - old).clamp(-value_clip, value_clip)
        expected = torch.maximum(expected, (clipped - target).square())
    plain = (value - target).square().mean()
    assert bool(expected.mean() > 1.01 * plain) is (value_clip == 0.1)
    torch.testing.assert_close(noted(learner, minibatch)["value_loss"], expected.mean())


def test_policy_loss_is_the_clipped_surrogate() -> None:
    learner, minibatch, steps = moved_learner()
    distribution = learner.agent.policy(steps[keys.FEATURES])
    log_probs = distribution.log_prob(steps[keys.ACTION])
    ratio = (log_probs - steps[keys.ACTION_LOG_PROB]).exp()
    advantage = steps[keys.ADVANTAGE].squeeze(-1)
    epsilon = learner.settings.clip_epsilon
    clipped = ratio.clamp(1 - epsilon, 1 + epsilon)
    gain = torch.minimum(ratio * advantage, clipped * advantage)
    outside = (ratio != clipped).float().mean()
    assert 0.1 < outside < 0.9
    found = noted(learner, minibatch)
    torch.testing.assert_close(found["policy_loss"], -gain.mean())
    torch.testing.assert_close(found["clip_fraction"], outside)
    kl = (ratio - 1 - ratio.log()).mean()
    torch.testing.assert_close(found["approximate_kl"], kl, atol=1e-4, rtol=1e-4)


def test_loss_is_the_sum_of_its_terms() -> None:
    learner, minibatch, steps = moved_learner(value_coefficient=0.7, entropy_coefficient=0.9)
    learner.entropy_weight = 0.3  # as a schedule would
    loss = learner.training_step(minibatch, 0)
    found = noted(learner, minibatch)
    entropy = learner.agent.policy(steps[keys.FEATURES]).entropy().mean()
    torch.testing.assert_close(found["entropy"], entropy)
    expected = found["policy_loss"] + 0.7 * found["value_loss"] - 0.3 * entropy
    torch.testing.assert_close(loss, expected)


def test_the_loss_takes_the_entropy_that_the_policy_tells() -> None:
    env = point_trials(6)
    learner = make_learner(make_agent(env), env)
    minibatch = minibatch_of(learner, env)
    steps = learner.lined_up_steps(minibatch)
    _, found = learner.loss_of(steps)
    expected = learner.agent.policy(steps[keys.FEATURES]).entropy().mean()
    torch.testing.assert_close(found["entropy"], expected.detach())
    first, second = (gradients(learner, minibatch) for _ in range(2))
    assert all(map(torch.equal, first.values(), second.values())), "nothing is drawn in the loss"
    assert all(gradient.any() for gradient in first.values())


def test_a_policy_at_its_bounds_learns_with_finite_gradients() -> None:
    env = point_trials(6)
    learner = make_learner(make_agent(env), env)
    with torch.no_grad():
        learner.agent.policy.layers[-1].bias.copy_(torch.tensor([1e4, -1e4, -1e4, -1e4]))
    assert (collect(env, learner)[keys.STEPS, keys.ACTION].abs() > 0.999).all()
    minibatch = minibatch_of(learner, env)
    found = gradients(learner, minibatch)
    assert all(gradient.isfinite().all() for gradient in found.values())
    steps = learner.lined_up_steps(minibatch)
    log_probs = learner.agent.policy(steps[keys.FEATURES]).log_prob(steps[keys.ACTION])
    torch.testing.assert_close(log_probs, steps[keys.ACTION_LOG_PROB], atol=1e-3, rtol=0)


def test_the_value_loss_is_clipped_around_what_the_critic_gave() -> None:
    env = corridor_trials(12)
    learner = make_learner(make_agent(env), env, value_clip=0.2)
    minibatch = minibatch_of(learner, env)
    steps = learner.lined_up_steps(minibatch)
    # Before the first update the critic has not changed, even if the scale has.
    torch.testing.assert_close(steps[keys.STATE_VALUE], steps[keys.OLD_STATE_VALUE])
    errors = (steps[keys.STATE_VALUE] - steps[keys.VALUE_TARGET]).square()
    torch.testing.assert_close(noted(learner, minibatch)["value_loss"], errors.mean().detach())


def test_a_loss_that_is_not_finite_stops_the_run() -> None:
    learner, minibatch, _ = moved_learner()
    with torch.no_grad():
        next(learner.critic.parameters()).fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match=r"^the loss is nan after \d+ env steps: lower"):
        learner.training_step(minibatch, 0)


def test_a_gradient_scaler_takes_no_skipped_updates() -> None:
    learner, *_ = moved_learner(target_kl=0.1)
    shape = run_shape(20, precision="16-mixed")
    with pytest.raises(UserError, match=r"^learner.target_kl=0.1 with trainer.precision=16-mixed"):
        learner.settings.check_run(shape)
    moved_learner()[0].settings.check_run(shape)


class Updates(Callback):
    """Records weights and Adam's state after each minibatch."""

    def __init__(self) -> None:
        self.seen: list[list[Tensor]] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        optimizer = trainer.optimizers[0]
        state = [value for entry in optimizer.state.values() for value in entry.values()]
        tensors = [*pl_module.parameters(), *state]
        self.seen.append([tensor.detach().clone() for tensor in tensors])


@pytest.mark.parametrize(("target_kl", "updates"), [(1e-6, 1), (1e6, 4), ("null", 4)])
def test_stop_leaves_weights_and_adam_alone(
    tmp_path: Path, target_kl: float | str, updates: int
) -> None:
    watch = Updates()
    fit(
        tmp_path,
        watch,
        f"learner.target_kl={target_kl}",
        "learner.num_epochs=2",
        "learner.learning_rate=0.05",
        "learner.final_learning_rate=0.05",
        "trainer.max_epochs=2",
    )
    assert len(watch.seen) == 2 * 4
    for first in (0, 4):
        for number in range(first + 1, first + 4):
            pairs = list(zip(watch.seen[number - 1], watch.seen[number], strict=True))
            same = [torch.equal(before, after) for before, after in pairs]
            assert all(same) is (number >= first + updates)
    # The next iteration makes updates again.
    assert not all(map(torch.equal, watch.seen[3], watch.seen[4]))


def test_stop_lasts_for_the_rest_of_the_iteration() -> None:
    env = corridor_trials(20)
    learner = make_learner(make_agent(env), env, target_kl=1e-3)
    minibatch = minibatch_of(learner, env)
    collected_with = deepcopy(learner.agent.state_dict())
    assert learner.training_step(minibatch, 0).grad_fn is not None
    with torch.no_grad():
        next(learner.agent.policy.parameters())[0].add_(1.0)
    assert learner.training_step(minibatch, 1).grad_fn is None
    # A later minibatch may be close to the old policy again, but is still skipped.
    learner.agent.load_state_dict(collected_with)
    assert learner.training_step(minibatch, 2).grad_fn is None
