"""Two ranks learn what one would from the same trials."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, distributed, multiprocessing, nn
from torch.nn.parallel import DistributedDataParallel

from rl2_lightning import keys
from rl2_lightning.algorithms.ppo import PPO
from tests.builders import as_minibatch, collect, corridor_trials, make_network, make_ppo

NUM_TRIALS = 12


class Step(nn.Module):
    """What DDP wraps: a training step."""

    def __init__(self, learner: PPO) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, minibatch) -> Tensor:
        return self.learner.training_step(minibatch, 0)


def trials_of_both(critic_sees_task: bool):
    env = corridor_trials(NUM_TRIALS)
    return env, collect(env, make_network(env, critic_sees_task=critic_sees_task))


def learn(
    rank: int, port: int, folder: str, target_kl: float | None, critic_sees_task: bool
) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    env, trials = trials_of_both(critic_sees_task)
    tasks = env.tasks
    network = make_network(env, critic_sees_task=critic_sees_task)
    learner = make_ppo(network, env, target_kl=target_kl)
    # Uneven shares of steps: the trials of the corridor differ in length.
    own = slice(rank * NUM_TRIALS // 2, (rank + 1) * NUM_TRIALS // 2)
    share = learner.prepare_trials(trials[own])
    if target_kl is not None and rank == 1:
        # Only this rank's policy seems to have moved.
        share[keys.ACTION_LOG_PROB] = share[keys.ACTION_LOG_PROB] - 0.5
    step = DistributedDataParallel(Step(learner))
    for _ in range(2):
        step.zero_grad()
        step(
            as_minibatch(share, network, tasks=tasks[own] if critic_sees_task else None)
        ).backward()
    found = {name: p.grad for name, p in network.named_parameters()}
    torch.save((found, learner.env_steps, learner.value_norm.state_dict()), f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    # The threads of gloo may wait for each other for ever when their objects are taken down.
    os._exit(0)


@pytest.fixture
def port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize("critic_sees_task", [False, True])
def test_two_ranks_equal_one(tmp_path: Path, port: int, critic_sees_task: bool) -> None:
    multiprocessing.spawn(learn, (port, str(tmp_path), None, critic_sees_task), nprocs=2)
    env, trials = trials_of_both(critic_sees_task)
    tasks = env.tasks if critic_sees_task else None
    network = make_network(env, critic_sees_task=critic_sees_task)
    learner = make_ppo(network, env)
    minibatch = as_minibatch(learner.prepare_trials(trials), network, tasks=tasks)
    learner.training_step(minibatch, 0).backward()
    for rank in (0, 1):
        found, env_steps, value_norm = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert env_steps == learner.env_steps
        for name, tensor in learner.value_norm.state_dict().items():
            torch.testing.assert_close(value_norm[name], tensor)
        for name, parameter in network.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, msg=name)


def test_all_ranks_stop_together(tmp_path: Path, port: int) -> None:
    # One rank is beyond the bound and the other is not: both must stop on their mean, for one
    # alone would wait for the other's gradients.
    multiprocessing.spawn(learn, (port, str(tmp_path), 0.01, False), nprocs=2)
    for rank in (0, 1):
        found, *_ = torch.load(tmp_path / f"{rank}.pt", weights_only=True)
        assert all(gradient is None for gradient in found.values())
