"""The losses of PPO equal TorchRL's, which are slower."""

import pytest
import torch
from tensordict import TensorDict
from tensordict.nn import (
    ProbabilisticTensorDictModule,
    ProbabilisticTensorDictSequential,
    TensorDictModule,
)
from torch import Tensor, nn
from torchrl.objectives import ClipPPOLoss

from rl2_lightning.agents.policies import make_policy
from rl2_lightning.agents.spaces import Actions, Box, Discrete, MultiDiscrete
from rl2_lightning.learners.clipped_loss import policy_loss, value_loss

NUM_STEPS, NUM_FEATURES, EPSILON = 200, 8, 0.2
ACTIONS = {
    "discrete": Discrete(5),
    "multi_discrete": MultiDiscrete((2, 4)),
    "box": Box((2,), low=(-1.0, -2.0), high=(1.0, 3.0)),
}


def torchrl_losses(
    layers: nn.Module, actions: Actions, steps: TensorDict, value_clip: float | None
) -> TensorDict:
    """The losses of TorchRL's `ClipPPOLoss`, of the policy that these layers parametrise."""
    policy = make_policy(actions, lambda _: layers)
    names = list(policy.parameter_names)

    class Parameters(nn.Module):
        def forward(self, features: Tensor) -> tuple[Tensor, ...]:
            return policy.parameters_of(features)

    actor = ProbabilisticTensorDictSequential(
        TensorDictModule(Parameters(), in_keys=["features"], out_keys=names),
        ProbabilisticTensorDictModule(
            in_keys=names,
            out_keys=["action"],
            distribution_class=policy.distribution_class,
            return_log_prob=True,
            log_prob_key="action_log_prob",
        ),
    )
    critic = TensorDictModule(nn.Identity(), in_keys=["value"], out_keys=["state_value"])
    loss = ClipPPOLoss(
        actor,
        critic,
        clip_epsilon=EPSILON,
        critic_coeff=1.0,
        entropy_coeff=1.0,
        clip_value=value_clip,
        loss_critic_type="l2",
        functional=False,
    )
    loss.set_keys(sample_log_prob="action_log_prob")
    return loss(steps)


@pytest.mark.parametrize("value_clip", [None, 0.3])
@pytest.mark.parametrize("name", ACTIONS)
def test_values_and_gradients_are_those_of_torchrl(name: str, value_clip: float | None) -> None:
    torch.manual_seed(0)
    made: list[nn.Linear] = []

    def make_layers(num_outputs: int) -> nn.Module:
        made.append(nn.Linear(NUM_FEATURES, num_outputs))
        return made[-1]

    actions = ACTIONS[name]
    policy = make_policy(actions, make_layers)
    features, advantage = torch.randn(NUM_STEPS, NUM_FEATURES), torch.randn(NUM_STEPS, 1)
    old_value, target = torch.randn(2, NUM_STEPS, 1)
    value = torch.randn(NUM_STEPS, 1, requires_grad=True)
    with torch.no_grad():
        action, log_prob = policy.act(features, greedy=False, generator=None)
        old_log_prob = log_prob + 0.3 * torch.randn(NUM_STEPS)

    distribution = policy(features)
    clipped = policy_loss(distribution, action, old_log_prob, advantage.squeeze(-1), EPSILON)
    losses = {
        "loss_objective": clipped.loss.mean(),
        "loss_critic": value_loss(value, old_value, target, value_clip).mean(),
        "loss_entropy": -distribution.entropy().mean(),
    }
    steps = TensorDict(
        {
            "features": features,
            "action": action,
            "action_log_prob": old_log_prob,
            "advantage": advantage,
            "value": value,
            "state_value": old_value,
            "value_target": target,
        },
        [NUM_STEPS],
    )
    theirs = torchrl_losses(made[-1], actions, steps, value_clip)
    torch.testing.assert_close(clipped.is_clipped.float().mean(), theirs["clip_fraction"])
    assert 0.1 < theirs["clip_fraction"] < 0.9
    weights = [*made[-1].parameters(), value]
    for key, own in losses.items():
        torch.testing.assert_close(own, theirs[key])
        found, expected = (
            torch.autograd.grad(one, weights, retain_graph=True, allow_unused=True)
            for one in (own, theirs[key])
        )
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-4)
