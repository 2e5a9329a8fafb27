"""A GPU computes the numbers that a CPU computes."""

from copy import deepcopy

import pytest
import torch
from torch.utils._pytree import tree_map

from rl2_lightning.data.seeding import permutation
from rl2_lightning.inputs import Inputs
from rl2_lightning.learners.varibad import VariBAD
from tests.agents.test_action_queries import agent_in_states, agent_of, history, in_states
from tests.builders import (
    CRITICS,
    MEMORIES,
    agent_settings,
    corridor_trials,
    gradients,
    make_agent,
    make_learner,
    make_memory,
    minibatch_of,
)

CLOSE = {"atol": 1e-4, "rtol": 1e-3}
LONG = 150  # more steps than linear attention reads at once, and than the caches of memories hold


@pytest.mark.parametrize("memory", MEMORIES)
def test_features_states_and_gradients_of_a_memory(memory: str) -> None:
    on_cpu = make_memory(memory, 4, num_layers=2, max_steps=LONG)
    on_gpu = deepcopy(on_cpu).cuda()
    encoding = torch.randn(5, LONG, 4)
    found = {}
    for name, module in (("cpu", on_cpu), ("gpu", on_gpu)):
        given = encoding.to(next(module.parameters()).device)
        features, state = module.unroll(given, module.initial_state(5))
        features.square().mean().backward()
        slopes = {key: p.grad.cpu() for key, p in module.named_parameters()}
        found[name] = (features.cpu(), [part.cpu() for part in state], slopes)
    torch.testing.assert_close(found["gpu"], found["cpu"], **CLOSE)


@pytest.mark.parametrize("memory", MEMORIES)
def test_single_steps_equal_the_window(memory: str) -> None:
    module = make_memory(memory, 4, num_layers=2, max_steps=LONG).cuda()
    encoding = torch.randn(5, LONG, 4, device="cuda")
    window, reached = module.unroll(encoding, module.initial_state(5))
    state = module.initial_state(5)
    steps = []
    for t in range(LONG):
        step, state = module.step(encoding[:, t], state)
        steps.append(step)
    torch.testing.assert_close(torch.stack(steps, 1), window, **CLOSE)
    torch.testing.assert_close(state, reached, **CLOSE)


@pytest.mark.parametrize("of_observation", [False, True])
def test_features_of_action_queries(of_observation: bool) -> None:
    on_cpu = agent_in_states() if of_observation else agent_of(3)
    shown = in_states(LONG) if of_observation else history(3)
    on_gpu = deepcopy(on_cpu).cuda()
    num = len(shown.previous_action)
    expected = on_cpu.unroll(shown, on_cpu.initial_state(num))
    given = Inputs(*(entry.cuda() for entry in shown))
    found = on_gpu.unroll(given, on_gpu.initial_state(num))
    found = tree_map(lambda tensor: tensor.cpu(), found)
    torch.testing.assert_close(found, expected, **CLOSE)


@pytest.mark.parametrize(("learner", "separate"), CRITICS)
def test_gradients_of_a_loss(learner: str, separate: bool) -> None:
    env = corridor_trials(20)
    agent = make_agent(env, **agent_settings(learner))
    on_cpu = make_learner(agent, env, learner, critic={"separate": separate})
    minibatch = minibatch_of(on_cpu, env)
    on_gpu = deepcopy(on_cpu).cuda()
    if isinstance(on_gpu, VariBAD):
        on_gpu.played = on_gpu.played.cuda()
    expected = gradients(on_cpu, minibatch)
    found = gradients(on_gpu, minibatch.cuda())
    torch.testing.assert_close({k: v.cpu() for k, v in found.items()}, expected, **CLOSE)


def test_the_order_of_minibatches() -> None:
    orders = [permutation(1000, 3, torch.device(name)) for name in ("cpu", "cuda")]
    assert orders[1].device.type == "cuda"
    assert torch.equal(orders[0], orders[1].cpu())
