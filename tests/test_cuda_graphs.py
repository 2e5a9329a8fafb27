"""Functions that are recorded as graphs, emulated on a CPU."""

import weakref
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from tensordict import TensorDict, TensorDictBase
from torch import Tensor

from rl2_lightning import cuda_graphs, keys, session
from rl2_lightning.cuda_graphs import Recorded, is_recorded, recorded, tensors_of
from rl2_lightning.data.collector import TrialCollector
from rl2_lightning.errors import UserError
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.recorded_loss import RecordedLoss
from tests.builders import (
    LEARNERS,
    agent_settings,
    corridor_trials,
    make_agent,
    make_learner,
    minibatch_of,
    point_trials,
)
from tests.command_line.program import mistake_told
from tests.emulated_graphs import emulate
from tests.locks import lock_trials
from tests.views import view_trials
from tests.waiting import WAITING, Watch


def test_a_replay_reads_tensors_and_draws_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(monkeypatch)
    generator = torch.Generator().manual_seed(3)
    given = torch.zeros(4)
    replayed = Recorded(lambda: given + torch.rand(4, generator=generator), [generator])
    first = replayed().clone()
    assert torch.equal(first, torch.rand(4, generator=torch.Generator().manual_seed(3)))
    given.fill_(10)
    assert ((replayed() - 10) - first).abs().max() > 1e-3
    generator.manual_seed(3)
    torch.testing.assert_close(replayed(), first + 10)
    assert not is_recorded()


def test_a_branch_on_numbers_cannot_be_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(monkeypatch)
    given = torch.ones(3)
    replayed = Recorded(lambda: given if given.all() else -given)
    with pytest.raises(
        UserError, match=r"cannot be recorded \(.+\); set trainer.cuda_graphs=false"
    ):
        replayed()


def test_a_mistake_in_what_is_recorded_is_told_as_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(monkeypatch)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        Recorded(lambda: torch.ones(2, 3) @ torch.ones(2, 3))()


def test_tasks_that_a_family_keeps_stay_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    emulate(monkeypatch)
    env = corridor_trials(4)
    kept = [env.task_env.sample_tasks(4) for _ in range(3)]
    copies = [tasks.clone() for tasks in kept]
    drawn = iter(kept)
    monkeypatch.setattr(env.task_env, "sample_training_tasks", lambda num: next(drawn))
    collector = TrialCollector(env, make_agent(env, "min_gru"), uses_graphs=True)
    for tasks in copies:
        collector.seed(1, 2)
        assert (collector.rollout()[keys.TASK] == tasks).all()
    for tasks, copy in zip(kept, copies, strict=True):
        assert (tasks == copy).all()


def test_all_tensors_of_an_object() -> None:
    tensors = [torch.full((2,), float(number)) for number in range(5)]
    inner = SimpleNamespace(kept=tensors[0], pair=(tensors[1], {"name": tensors[2]}))
    inner.outer = outer = SimpleNamespace(
        inner=inner, tasks=TensorDict({"p": {"q": tensors[3]}}, [2])
    )
    found = {id(one) for one in tensors_of([outer, tensors[4]])}
    assert len(found) == 5
    values = sorted(one[0].item() for one in tensors_of([outer, tensors[4]]))
    assert values == [0, 1, 2, 3, 4]


def test_tensors_that_are_replaced_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    holder = SimpleNamespace(tensor=torch.zeros(3))
    read = []

    def function() -> None:
        read.append(weakref.ref(holder.tensor))
        holder.tensor = holder.tensor + 1

    monkeypatch.setattr(cuda_graphs, "warm_up", lambda function: function())
    monkeypatch.setattr(cuda_graphs, "capture", lambda function, _: (lambda: None, function()))
    replayed = Recorded(function, reads=[holder])
    replayed()
    of_warm_up, of_graph = read
    assert of_warm_up() is None
    assert of_graph() is not None


def test_a_loss_is_recorded_for_each_size(monkeypatch: pytest.MonkeyPatch) -> None:
    graphs = emulate(monkeypatch)
    layer, unused = torch.nn.Linear(3, 1), torch.nn.Linear(2, 2)
    weight = torch.tensor(2.0)

    def loss_of(minibatch: TensorDictBase) -> tuple[Tensor, dict[str, Tensor]]:
        mean = layer(minibatch["x"]).square().mean()
        return weight * mean, {"mean": mean}

    loss = RecordedLoss(loss_of, [*layer.parameters(), *unused.parameters()])
    noted = []
    for num, factor in ((4, 1.0), (4, 3.0), (6, 1.0)):
        weight.fill_(factor)
        minibatch = TensorDict({"x": torch.randn(num, 3)}, [num])
        expected = torch.autograd.grad(loss_of(minibatch)[0], layer.parameters())
        value, diagnostics = loss(minibatch)
        noted.append((diagnostics["mean"], loss_of(minibatch)[1]["mean"]))
        layer.zero_grad()
        (0.5 * value).backward()
        torch.testing.assert_close([p.grad for p in layer.parameters()], [g / 2 for g in expected])
    assert unused.weight.grad is None
    assert len(graphs) == 2
    for found, right in noted:
        torch.testing.assert_close(found, right)


@pytest.mark.parametrize("trials", [corridor_trials, point_trials, view_trials, lock_trials])
def test_a_recorded_loss_waits_for_nothing(trials: Callable[[int], TrialEnv]) -> None:
    env = trials(8)
    learner = make_learner(make_agent(env, hidden_sizes=(8,)), env, "ppo")
    minibatch = minibatch_of(learner, env)
    parameters = list(learner.parameters())
    with recorded(), torch.compiler.set_stance("force_eager"):
        for _ in range(2):  # what is computed once is computed while warming up
            with Watch() as watch:
                loss, _ = learner.loss_of(learner.lined_up_steps(minibatch))
                torch.autograd.grad(loss, parameters, allow_unused=True)
    assert {"mm", "exp"} & watch.seen
    assert not watch.seen & WAITING


@pytest.mark.parametrize("learner", [name for name in LEARNERS if name != "ppo"])
def test_other_learners_are_refused(learner: str) -> None:
    env = corridor_trials(4)
    refused = make_learner(make_agent(env, **agent_settings(learner)), env, learner)
    with pytest.raises(UserError, match="which computes some of its numbers in Python"):
        session.require_recordable(refused, torch.device("cuda"))


IN_PYTHON = (
    "which computes some of its numbers in Python: set trainer.cuda_graphs=false, or learner=ppo"
)
MISTAKES = {
    "trainer.accelerator=cpu": (
        "on a CPU: only the operations of a GPU can be recorded; set trainer.cuda_graphs=false"
    ),
    "learner=a2c": f"with A2C, {IN_PYTHON}",
    "learner=r2d2_ppo": f"with R2D2PPO, {IN_PYTHON}",
    "trainer.devices=2": (
        "with 2 processes: only the operations of one GPU are recorded; set "
        "trainer.cuda_graphs=false, or trainer.devices=1"
    ),
    "trainer.precision=bf16-mixed": (
        "with trainer.precision=bf16-mixed: only float32 is recorded; set "
        "trainer.precision=32-true, with trainer.tf32=true for faster products"
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_what_cannot_be_recorded_is_told(tmp_path: Path, mistake: str) -> None:
    given = ("trainer.accelerator=cpu", "trainer.cuda_graphs=true", mistake)
    assert f"trainer.cuda_graphs=true {MISTAKES[mistake]}" in mistake_told(tmp_path, *given)
