"""A checkpoint fits the optimisers and the loop of the resumed training, or is rejected."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import LBFGS, SGD, Adam, Optimizer

from rl2_lightning.learners.resumption import first_unlike, loop_fault, optimizers_fault


def stepped(optimizer: Optimizer) -> Optimizer:
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    return optimizer


def module() -> nn.Module:
    return nn.Linear(2, 3)


def adam() -> Optimizer:
    return Adam(module().parameters(), lr=0.1)


@pytest.mark.parametrize(
    "make",
    [adam, lambda: SGD(module().parameters(), momentum=0.9), lambda: SGD(module().parameters())],
)
def test_the_state_of_its_own_optimiser_fits(make: Callable[[], Optimizer], tmp_path: Path) -> None:
    state = stepped(make()).state_dict()
    torch.save(state, tmp_path / "state.pt")
    read = torch.load(tmp_path / "state.pt", weights_only=True)
    fresh = make()
    assert optimizers_fault([read], [fresh]) is None
    assert not fresh.state, "looking at it changes nothing"
    fresh.load_state_dict(read)
    stepped(fresh)


def test_an_optimiser_that_cannot_be_rehearsed_is_believed() -> None:
    state = LBFGS(module().parameters()).state_dict()
    assert optimizers_fault([state], [LBFGS(module().parameters())]) is None


def moment(state: dict[str, Any]) -> dict[str, Any]:
    return state["state"][0]


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "shape": (lambda s: moment(s).update(exp_avg=torch.ones(1)), "state.0.exp_avg does not match"),
    "dtype": (
        lambda s: moment(s).update(exp_avg=torch.ones(3, 2, dtype=torch.float64)),
        "state.0.exp_avg does not match",
    ),
    "step": (lambda s: moment(s).update(step=torch.ones(2)), "state.0.step does not match"),
    "number": (lambda s: moment(s).update(exp_avg=3), "state.0.exp_avg does not match"),
    "name": (lambda s: moment(s).update(more=torch.ones(1)), "state.0 does not match"),
    "lacking": (lambda s: moment(s).pop("exp_avg_sq"), "state.0 does not match"),
    "entries": (lambda s: s["state"].update({0: 3}), "state.0 does not match"),
    "index": (lambda s: s["state"].update({9: moment(s)}), "state.9 does not match"),
    "state": (lambda s: s.update(state=[3]), "state does not match"),
    "parameters": (
        lambda s: s["param_groups"][0]["params"].pop(),
        "params does not match this run's",
    ),
    "order": (lambda s: s["param_groups"][0]["params"].reverse(), "0 does not match this run's"),
    "groups": (lambda s: s["param_groups"].append({}), "param_groups does not match this run's"),
    "group": (lambda s: s.update(param_groups=[3]), "param_groups.0 does not match this run's"),
    "betas": (
        lambda s: s["param_groups"][0].update(betas=(0.9,)),
        "0.betas does not match this run's",
    ),
    "rate": (lambda s: s["param_groups"][0].update(lr="x"), "0.lr does not match this run's"),
    "negative": (
        lambda s: s["param_groups"][0].update(eps=-1.0),
        "0.eps does not match this run's",
    ),
    "besides": (lambda s: s.update(more=3), "0 is not the state of an optimiser"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_states_that_do_not_fit(change: str) -> None:
    state = copy.deepcopy(stepped(adam()).state_dict())
    do, words = CHANGES[change]
    do(state)
    told = optimizers_fault([state], [adam()])
    assert told is not None
    assert told.startswith("optimizer_states.0")
    assert words in told


@pytest.mark.parametrize("states", [None, 3, [], [3], torch.ones(3), {"a": 3}, [{}, {}]])
def test_what_is_no_list_of_states(states: Any) -> None:
    assert optimizers_fault(states, [adam()]) is not None


COUNTS = {"ready": 0, "processed": 0}
LOOP = {
    "state_dict": {},
    "epoch_loop.batch_progress": {"current": dict(COUNTS), "is_last_batch": False},
    "epoch_progress": {"total": dict(COUNTS), "current": dict(COUNTS)},
}


def told_of_loop(change: Callable[[dict[str, Any]], Any]) -> str | None:
    theirs = copy.deepcopy(LOOP)
    theirs["epoch_progress"]["current"]["processed"] = 3
    theirs["epoch_loop.batch_progress"]["is_last_batch"] = True
    content = {
        "state_dict": {"clock.iterations_done": torch.tensor(3)},
        "loops": {"fit_loop": theirs},
    }
    change(content)
    return loop_fault(content, LOOP)


LOOP_CHANGES: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "no loops": (
        lambda c: c.update(loops=[3]),
        "loops.fit_loop is not a counter of a training loop",
    ),
    "a number": (lambda c: c["loops"].update(fit_loop=3), "loops.fit_loop is not"),
    "emptied": (
        lambda c: c["loops"]["fit_loop"]["epoch_progress"].clear(),
        "loops.fit_loop.epoch_progress is not",
    ),
    "negative": (
        lambda c: c["loops"]["fit_loop"]["epoch_progress"]["total"].update(ready=-1),
        "epoch_progress.total.ready is not",
    ),
    "a word": (
        lambda c: c["loops"]["fit_loop"]["epoch_progress"]["total"].update(ready="x"),
        "epoch_progress.total.ready is not",
    ),
    "clock": (
        lambda c: c["state_dict"].update({"clock.iterations_done": torch.tensor(5)}),
        "its clock has 5 iterations, but its loop has 3",
    ),
    "within an iteration": (
        lambda c: c["loops"]["fit_loop"]["epoch_loop.batch_progress"].update(
            current={"ready": 2, "processed": 2}, is_last_batch=False
        ),
        "it was saved within an iteration, after 2 of its minibatches",
    ),
}


def test_a_loop_that_fits() -> None:
    assert told_of_loop(lambda content: None) is None


@pytest.mark.parametrize("change", LOOP_CHANGES)
def test_loops_that_do_not_fit(change: str) -> None:
    do, words = LOOP_CHANGES[change]
    assert words in str(told_of_loop(do))


def test_numbers_may_differ() -> None:
    assert first_unlike({"a": 3.5, "b": [None], "c": 1}, {"a": 0, "b": [True]}, "x") is None
