"""Which precisions pay on the device of a run."""

from time import perf_counter

import torch
from torch.utils._pytree import tree_map

from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.observations import ObservationForm
from rl2_lightning.errors import UserError

NUM_TRIALS, NUM_STEPS = 256, 16  # of the windows that are timed
ROUNDS = 12  # the fastest counts, since a shared machine's speed varies
LEAST_SLOWDOWN = 1.1  # what is nearer to 1 may be noise


def require_useful_precision(
    precision: str, agent: Agent, device: torch.device, max_steps: int
) -> None:
    """Check that a mixed precision is not slower than float32 on a CPU; elsewhere it is accepted.

    Args:
        precision: precision of Lightning's trainer.
        agent: the agent that is to be trained.
        device: device of the run.
        max_steps: longest trial, in env steps.

    Raises:
        UserError: the precision needs a GPU, or acting and learning take longer in it.
    """
    if device.type != "cpu" or precision == "32-true":
        return
    if precision == "16-mixed":
        raise UserError(
            "trainer.precision=16-mixed on a CPU, which is for GPUs: set trainer.precision=32-true"
        )
    slowdown = slowdown_of(agent, min(NUM_STEPS, max_steps))
    if slowdown > LEAST_SLOWDOWN:
        raise UserError(
            f"trainer.precision={precision} on this processor: a step of this agent, acting and "
            f"learning, takes {slowdown:.1f} times as long as in float32; set "
            "trainer.precision=32-true"
        )


def slowdown_of(agent: Agent, num_steps: int) -> float:
    """Seconds of acting and of a pass over a window in bfloat16, as a multiple of float32's.

    Args:
        agent: the agent, on a CPU; its gradients are cleared.
        num_steps: T, number of steps, and length of the window.
    """
    observation = ObservationForm(agent.spec.observations, torch.device("cpu")).zeros(NUM_TRIALS)
    step = agent.first_inputs(observation)
    window = tree_map(
        lambda entry: entry.unsqueeze(1).expand(-1, num_steps, *entry.shape[1:]).contiguous(), step
    )
    times: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(ROUNDS):
        for mixed, seen in times.items():
            begun = perf_counter()
            with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
                state = agent.initial_state(NUM_TRIALS)
                for _ in range(num_steps):
                    state = agent.act(step, state, greedy=True).state
                features, _ = agent.unroll(window, agent.initial_state(NUM_TRIALS))
                loss = features.square().mean()
            loss.backward()
            seen.append(perf_counter() - begun)
    agent.zero_grad(set_to_none=True)
    return min(times[True]) / min(times[False])
