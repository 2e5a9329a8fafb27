"""Two ranks compute the same update as one, from the same trials."""

import os
import socket
from typing import Any

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector

from rl2_lightning import keys
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.learner import Learner
from tests.builders import (
    ACTOR_CRITICS,
    MEMORIES,
    agent_settings,
    as_minibatch,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    whole_loss,
)
from tests.forked import run_ranks
from tests.learners.replayed import Told, as_replayed

NUM_TRIALS = 12
REPLAYING = ("r2d2", "r2d2_ppo")


class Step(nn.Module):
    """A training step as a module, for DDP."""

    def __init__(self, learner: Learner) -> None:
        super().__init__()
        self.learner = learner

    def forward(self, minibatch: TensorDictBase) -> Tensor:
        return whole_loss(self.learner, minibatch)


def of_both(learner: str, memory: str, critic: dict[str, bool], **changes: object):
    """The learner, and the trials of both ranks."""
    env = corridor_trials(NUM_TRIALS)
    agent = make_agent(env, memory, **agent_settings(learner))
    teacher = make_learner(agent, env, learner, critic=critic, **changes)
    return env, teacher, collect(env, teacher)


def learn_share(rank: int, target_kl: float | None, *kind) -> tuple:
    changes = {} if target_kl is None else {"target_kl": target_kl}
    env, learner, trials = of_both(*kind, **changes)
    # Uneven shares of steps: the trials of the corridor differ in length.
    own = slice(rank * NUM_TRIALS // 2, (rank + 1) * NUM_TRIALS // 2)
    share = learner.prepare(trials[own], [0])
    if target_kl is not None and rank == 1:
        # Only this rank's policy seems to have moved.
        log_probs = share[keys.STEPS, keys.ACTION_LOG_PROB]
        share[keys.STEPS, keys.ACTION_LOG_PROB] = log_probs - 0.5
    step = DistributedDataParallel(Step(learner))
    for _ in range(2):
        step.zero_grad()
        step(as_minibatch(learner, env, share)).backward()
    found = {name: p.grad for name, p in learner.named_parameters()}
    return found, {name: b for name, b in learner.state_dict().items() if name not in found}


class ReplayedStep(Step):
    """A training step on replayed windows."""

    def forward(self, minibatch: TensorDictBase) -> Tensor:
        return self.learner.training_step(minibatch, 0)


def replayed_share(name: str, own: slice) -> tuple[Learner, TensorDictBase]:
    """The learner, and windows of some of the trials with different weights."""
    env = corridor_trials(NUM_TRIALS)
    # Without random actions, whose probability depends on the rank.
    changes = {"epsilon": 0.0} if name == "r2d2" else {}
    learner = make_learner(make_agent(env), env, name, **changes)
    prepared = learner.prepare(collect(env, learner)[own], [0])
    learner._source = Told()
    learner.require_finite = lambda *_: None
    weights = torch.linspace(0.2, 1.7, NUM_TRIALS)[own]
    return learner, as_replayed(env, learner, prepared).set(keys.WEIGHT, weights)


def learn_replayed(rank: int, name: str) -> dict[str, Tensor]:
    own = slice(rank * NUM_TRIALS // 2, (rank + 1) * NUM_TRIALS // 2)
    learner, windows = replayed_share(name, own)
    step = DistributedDataParallel(ReplayedStep(learner))  # it must outlive the backward pass
    step(windows).backward()
    return {name: p.grad for name, p in learner.named_parameters() if p.requires_grad}


def trust_region(memory: str):
    """A learner that takes steps within a trust region, and the trials of both ranks."""
    # Few products, after which rounding errors are still small.
    return of_both("trpo", memory, {}, fisher_stride=3, conjugate_gradient_steps=3, damping=0.1)


def step_on(learner: Learner, env: TrialEnv, trials: TensorDictBase) -> Tensor:
    """The agent's weights after the step on these trials."""
    prepared = learner.prepare(trials, [0])
    learner.improve_policy(as_minibatch(learner, env, prepared))
    return parameters_to_vector(learner.agent.parameters()).detach()


def step_on_share(rank: int, memory: str) -> Tensor:
    env, learner, trials = trust_region(memory)
    own = slice(rank * NUM_TRIALS // 2, (rank + 1) * NUM_TRIALS // 2)
    return step_on(learner, env, trials[own])


def meta_gradient(memory: str):
    """A learner of its own discounts, and the trials of both ranks."""
    env, learner, trials = of_both("meta_gradient", memory, {})
    return learner, env, trials


def meta_steps(learner: Learner, env: TrialEnv, trials: TensorDictBase) -> tuple[Tensor, ...]:
    """What an inner and an outer step on these trials use."""
    windows = as_minibatch(learner, env, learner.prepare(trials, [0]))
    return *learner.inner_derivatives(windows), learner.outer_gradient(windows)


def meta_steps_on_share(rank: int, memory: str) -> tuple[Tensor, ...]:
    learner, env, trials = meta_gradient(memory)
    own = slice(rank * NUM_TRIALS // 2, (rank + 1) * NUM_TRIALS // 2)
    return meta_steps(learner, env, trials[own])


def measured(own: slice) -> dict[str, Tensor]:
    """What an agent and its critic have measured in two iterations with some of the trials."""
    env = corridor_trials(NUM_TRIALS)
    agent = make_agent(env, normalised=["observation", "reward"])
    learner = make_learner(agent, env, critic={"separate": True})
    for steps in (
        collect(env, make_learner(make_agent(env), env), seed=s)[keys.STEPS] for s in (1, 2)
    ):
        learner.note_inputs(steps[own])
        learner.begin_collection()
    return {name: one for name, one in learner.state_dict().items() if ".normaliser." in name}


KINDS = {
    f"{learner}, {memory}{', '.join(['', *critic])}": (learner, memory, critic)
    for learner in ACTOR_CRITICS
    for memory, critic in [
        *((memory, {}) for memory in MEMORIES),
        ("gru", {"sees_task": True, "separate": True}),
    ]
}


def learn(rank: int, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    distributed.init_process_group("gloo", rank=rank, world_size=2)
    found = {name: learn_share(rank, None, *kind) for name, kind in KINDS.items()}
    found["stop"] = learn_share(rank, 0.01, "ppo", "gru", {})
    found["steps"] = {memory: step_on_share(rank, memory) for memory in MEMORIES}
    found["replayed"] = {name: learn_replayed(rank, name) for name in REPLAYING}
    found["meta"] = {memory: meta_steps_on_share(rank, memory) for memory in MEMORIES}
    found["measured"] = measured(slice(0, 4) if rank == 0 else slice(4, None))
    torch.save(found, f"{folder}/{rank}.pt")
    distributed.barrier()
    distributed.destroy_process_group()
    # Gloo's threads may deadlock when their objects are destroyed.
    os._exit(0)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Gradients and buffers of both ranks, by kind; cached, since starting ranks is slow."""
    folder = tmp_path_factory.mktemp("ranks")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    run_ranks(learn, port, str(folder))
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("kind", KINDS)
def test_two_ranks_equal_one(ranks: list[dict[str, Any]], kind: str) -> None:
    env, learner, trials = of_both(*KINDS[kind])
    whole_loss(learner, as_minibatch(learner, env, learner.prepare(trials, [0]))).backward()
    assert learner.clock.env_steps == int(trials[keys.STEPS, keys.MASK].sum())
    for rank in ranks:
        found, buffers = rank[kind]
        assert buffers.keys() | found.keys() == learner.state_dict().keys()
        for name, buffer in buffers.items():
            torch.testing.assert_close(buffer, learner.state_dict()[name], msg=name)
        for name, parameter in learner.named_parameters():
            torch.testing.assert_close(found[name], parameter.grad, msg=name)


@pytest.mark.parametrize("name", REPLAYING)
def test_two_ranks_learn_from_replayed_windows_like_one(
    ranks: list[dict[str, Any]], name: str
) -> None:
    learner, windows = replayed_share(name, slice(None))
    learner.training_step(windows, 0).backward()
    for rank in ranks:
        for key, gradient in rank["replayed"][name].items():
            expected = dict(learner.named_parameters())[key].grad
            torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("memory", MEMORIES)
def test_two_ranks_take_the_step_of_one(ranks: list[dict[str, Any]], memory: str) -> None:
    env, learner, trials = trust_region(memory)
    before = parameters_to_vector(learner.agent.parameters()).detach().clone()
    step = step_on(learner, env, trials) - before
    assert step.any()
    first, second = (rank["steps"][memory] for rank in ranks)
    assert torch.equal(first, second)
    assert (first - before - step).norm() < 0.01 * step.norm()


@pytest.mark.parametrize("memory", MEMORIES)
def test_two_ranks_have_the_meta_gradient_of_one(ranks: list[dict[str, Any]], memory: str) -> None:
    whole = meta_steps(*meta_gradient(memory))
    for parts in zip(whole, *(rank["meta"][memory] for rank in ranks), strict=True):
        expected, first, second = parts
        assert expected.any()
        assert torch.equal(first, second)
        torch.testing.assert_close(first, expected, rtol=1e-4, atol=1e-6)


def test_two_ranks_measure_the_inputs_of_one(ranks: list[dict[str, Any]]) -> None:
    expected = measured(slice(None))
    assert expected["agent.encoder.normaliser.observations.of_.count"] > 2 * NUM_TRIALS
    for rank in ranks:
        torch.testing.assert_close(rank["measured"], expected)


def test_all_ranks_stop_together(ranks: list[dict[str, Any]]) -> None:
    # Only one rank exceeds the bound: both must stop on their mean, since one alone would wait for
    # the other's gradients.
    for rank in ranks:
        found, _ = rank["stop"]
        assert all(gradient is None for gradient in found.values())
