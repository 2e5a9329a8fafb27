"""A GPU computes the numbers that a CPU computes."""

from copy import deepcopy

import pytest
import torch

from rl2_lightning.learners.varibad import VariBAD
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


@pytest.mark.parametrize("memory", MEMORIES)
def test_features_states_and_gradients_of_a_memory(memory: str) -> None:
    on_cpu = make_memory(memory, 4, num_layers=2)
    on_gpu = deepcopy(on_cpu).cuda()
    encoding = torch.randn(5, 9, 4)
    found = {}
    for name, module in (("cpu", on_cpu), ("gpu", on_gpu)):
        given = encoding.to(next(module.parameters()).device)
        features, state = module.unroll(given, module.initial_state(5))
        features.square().sum().backward()
        slopes = {key: p.grad.cpu() for key, p in module.named_parameters()}
        found[name] = (features.cpu(), [part.cpu() for part in state], slopes)
    torch.testing.assert_close(found["gpu"], found["cpu"], **CLOSE)


@pytest.mark.parametrize("memory", MEMORIES)
def test_single_steps_equal_the_window(memory: str) -> None:
    module = make_memory(memory, 4, num_layers=2).cuda()
    encoding = torch.randn(5, 9, 4, device="cuda")
    window, reached = module.unroll(encoding, module.initial_state(5))
    state = module.initial_state(5)
    steps = []
    for t in range(9):
        step, state = module.step(encoding[:, t], state)
        steps.append(step)
    torch.testing.assert_close(torch.stack(steps, 1), window, **CLOSE)
    torch.testing.assert_close(state, reached, **CLOSE)


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
