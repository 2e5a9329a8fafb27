"""A GPU gives the results of a CPU: exactly, or on average where it draws random numbers."""

import math

import pytest
import torch
from tensordict import TensorDict

from rl2_lightning import keys
from rl2_lightning.families import cart_pole, pendulum
from rl2_lightning.families.task_env import TaskEnv
from tests.families.catalogue import NAMES, make_family
from tests.families.draws import draw_actions

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
NUM_TASKS, NUM_STEPS = 200, 30


def played(env: TaskEnv, tasks: TensorDict, actions: torch.Tensor, seed: int = 0) -> TensorDict:
    """The observations and rewards of successive episodes, on the CPU."""
    env.set_seed(seed)
    tasks = tasks.to(env.device)
    state = env.reset(TensorDict({keys.TASK: tasks.clone()}, env.batch_size, env.device))
    answers = []
    for action in actions.to(env.device):
        answer = env.step(state.set(keys.ACTION, action))[keys.NEXT]
        answers.append(answer.select(keys.OBSERVATION, keys.STEP_REWARD).cpu())
        # Without tasks a reset would draw new ones, which differ between devices. Its argument is
        # overwritten.
        request = answer.clone().set(keys.RESET, answer[keys.TRIAL_DONE])
        state = env.reset(request.set(keys.TASK, tasks.clone()))
    return torch.stack(answers)


@pytest.mark.parametrize("name", NAMES)
def test_episodes_are_played_alike(name: str) -> None:
    on_cpu, on_gpu = make_family(name, NUM_TASKS), make_family(name, NUM_TASKS, "cuda")
    tasks, actions = on_cpu.sample_tasks(NUM_TASKS), draw_actions(on_cpu, NUM_STEPS)
    expected, found = played(on_cpu, tasks, actions), played(on_gpu, tasks, actions)
    if (played(on_cpu, tasks, actions, seed=1) == expected).all():  # only the tasks are drawn
        for key, numbers in expected.items(include_nested=True, leaves_only=True):
            is_image = numbers.dtype == torch.uint8
            apart = ~found[key].float().isclose(numbers.float(), atol=1e-4, rtol=1e-4)
            # At the edge of a wall, a pixel may be rounded into its neighbour's colour.
            assert apart.float().mean() <= (1e-4 if is_image else 0), key
        return
    rewards = [play[keys.STEP_REWARD].sum(0).squeeze(1) for play in (expected, found)]
    spread = math.sqrt(sum(reward.var().item() for reward in rewards) / NUM_TASKS)
    assert abs(rewards[0].mean() - rewards[1].mean()) <= 5 * spread


@pytest.mark.parametrize("law", [cart_pole.move, lambda *given: pendulum.swing(*given)[0]])
def test_physics_is_the_same(law) -> None:
    name = "cart_pole" if law is cart_pole.move else "pendulum"
    env = make_family(name, NUM_TASKS)
    tasks = env.sample_tasks(NUM_TASKS)
    state = torch.randn(NUM_TASKS, 4 if name == "cart_pole" else 2)
    action = draw_actions(env, 1)[0]
    found = law(state.cuda(), action.cuda(), tasks.cuda()).cpu()
    torch.testing.assert_close(found, law(state, action, tasks), atol=1e-4, rtol=1e-4)
