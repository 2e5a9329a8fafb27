"""TRPO: the step within the trust region, the critic fitted apart, whole iterations."""

from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.ranks import over_all_ranks, world_size
from rl2_lightning.learners.surrogate import Measure, SurrogateProblem
from rl2_lightning.learners.trpo import TRPO
from tests.builders import (
    MEMORIES,
    ROOT,
    as_minibatch,
    bandit_trials,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    minibatch_of,
    point_trials,
    poisoned,
    run_shape,
    starts_of,
)
from tests.command_line.program import run_program
from tests.learners.trust_region import learner_and_windows, problem_of, weights
from tests.locks import lock_trials
from tests.short_fit import fit


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials, point_trials, lock_trials])
@pytest.mark.parametrize("target_kl", [0.001, 0.01, 0.5])
def test_a_step_improves_the_policy_within_the_limit_or_is_not_taken(
    make_trials, target_kl: float
) -> None:
    env = make_trials(12)
    learner, _ = learner_and_windows(
        env, gain=30, target_kl=target_kl, line_search_steps=6, fisher_stride=3, num_minibatches=2
    )
    fractions = set()
    for seed in range(8):
        windows = minibatch_of(learner, env, seed=seed)
        problem, old = problem_of(learner, windows, 0.01), weights(learner.agent)
        before = problem.measure()
        learner._diagnostics.clear()
        learner.improve_policy(windows)
        noted = {name: float(values[0]) for name, values in learner._diagnostics.items()}
        after = problem.measure()
        fractions.add(noted["step_fraction"])
        if noted["step_fraction"] == 0:
            assert torch.equal(weights(learner.agent), old)
            assert noted["policy_improvement"] == noted["approximate_kl"] == 0
        else:
            assert after.objective > before.objective
            assert 0 < after.divergence <= target_kl * 1.001
            gained = after.objective - before.objective
            assert noted["policy_improvement"] == pytest.approx(gained, rel=1e-2, abs=1e-5)
            assert noted["approximate_kl"] == pytest.approx(after.divergence, rel=1e-3)
        assert noted["entropy"] == pytest.approx(before.entropy, rel=1e-4)
    assert fractions != {0.0}


def test_weights_are_restored_bit_for_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    learner, windows = learner_and_windows(corridor_trials(8))
    measured: list[Tensor] = []

    def measure(problem: SurrogateProblem) -> Measure:
        measured.append(weights(learner.agent))
        return Measure(-float(len(measured)), 0.0, 1.0)

    monkeypatch.setattr(SurrogateProblem, "measure", measure)
    old = weights(learner.agent)
    learner.improve_policy(windows)
    assert len(measured) == 1 + learner.settings.line_search_steps
    assert torch.equal(measured[0], old)
    assert not any(torch.equal(one, old) for one in measured[1:])
    assert torch.equal(weights(learner.agent), old)
    assert learner._diagnostics["step_fraction"] == [torch.tensor(0.0)]


def test_the_step_does_not_depend_on_the_chunks() -> None:
    env = corridor_trials(12)
    reached = []
    for num_minibatches in (1, 3):
        # Few products, after which rounding errors are still small.
        learner, windows = learner_and_windows(
            env, gain=30, num_minibatches=num_minibatches, conjugate_gradient_steps=3
        )
        learner.improve_policy(windows)
        reached.append(weights(learner.agent))
    torch.testing.assert_close(*reached, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("window", "trial_windows"), [(None, 1), (4, 4)])
def test_the_fisher_matrix_uses_whole_trials(
    monkeypatch: pytest.MonkeyPatch, window: int | None, trial_windows: int
) -> None:
    env = corridor_trials(6)
    learner, windows = learner_and_windows(env, window=window, fisher_stride=2)
    used: list[Tensor] = []

    def product_of(problem: SurrogateProblem, vector: Tensor) -> Tensor:
        used[:] = [chunk["number"] for chunk in problem._fisher_chunks]
        return vector

    monkeypatch.setattr(SurrogateProblem, "fisher_vector_product", product_of)
    learner.improve_policy(windows.set("number", torch.arange(len(windows))))
    numbers = torch.arange(6 * trial_windows).view(6, trial_windows)
    assert torch.equal(torch.cat(used), numbers[::2].flatten())


@pytest.mark.parametrize("memory", MEMORIES)
@pytest.mark.parametrize(("window", "burn_in"), [(None, 0), (4, 0), (4, 3)])
def test_masked_steps_change_no_step(memory: str, window: int | None, burn_in: int) -> None:
    env, sizes = corridor_trials(9), {"window": window, "burn_in": burn_in}
    starts, reached = starts_of(env, **sizes), []
    for poison in (False, True):
        learner = make_learner(make_agent(env, memory), env, "trpo", fisher_stride=2)
        trials = collect(env, learner, **sizes)
        assert (~trials[keys.STEPS, keys.MASK]).any()
        before = weights(learner.agent)
        prepared = learner.prepare(poisoned(trials, starts) if poison else trials, starts)
        learner.improve_policy(as_minibatch(learner, env, prepared, **sizes))
        reached.append(weights(learner.agent))
        assert reached[-1].isfinite().all()
        assert not torch.equal(reached[-1], before)
    assert torch.equal(*reached)


def test_weights_that_are_not_finite_stop_the_run() -> None:
    learner, windows = learner_and_windows(corridor_trials(8))
    with torch.no_grad():
        next(learner.agent.policy.parameters()).fill_(torch.nan)
    told = r"^the norm of the policy's gradient is nan after \d+ env steps: raise learner.damping"
    with pytest.raises(NonFiniteLossError, match=told):
        learner.improve_policy(windows)


class Updates(Callback):
    """Records the weights of agent and critic before the first minibatch and after each one."""

    def __init__(self) -> None:
        self.seen: list[tuple[Tensor, Tensor]] = []
        self.steps: list[int] = []
        self.states: list[int] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 0:
            self.seen.append((weights(pl_module.agent), weights(pl_module.critic)))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx) -> None:
        self.seen.append((weights(pl_module.agent), weights(pl_module.critic)))
        self.steps.append(trainer.global_step)
        self.states.append(len(trainer.optimizers[0].state))


OWN = ("learner=trpo", "~learner.value_coefficient", "learner.num_epochs=2")


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_an_iteration_moves_the_policy_once_and_the_critic_often(
    tmp_path: Path, precision: str
) -> None:
    watch = Updates()
    learner = fit(tmp_path, watch, *OWN, "trainer.max_epochs=2", f"trainer.precision={precision}")
    assert watch.steps == list(range(1, 9))  # of Adam: 2 iterations, 2 epochs, 2 minibatches
    assert set(watch.states) == {len(list(learner.critic.parameters()))}
    for first in (0, 5):
        policies, critics = zip(*watch.seen[first : first + 5], strict=True)
        moved = [not torch.equal(one, policies[0]) for one in policies]
        assert moved == [False, True, True, True, True]
        assert all(torch.equal(one, policies[1]) for one in policies[1:])
        assert not any(torch.equal(critics[i], critics[i + 1]) for i in range(4))
    assert torch.equal(watch.seen[4][0], watch.seen[5][0])


def test_reads_of_pairs_take_steps(tmp_path: Path) -> None:
    watch = Updates()
    # At a trial's start there is no previous observation, whose key is then zero.
    pairs = ("env=tabular_mdp", "env.horizon=4", "agent.action_queries.of_observation=true")
    head = ("agent.policy_head=action_queries", "agent.policy_hidden_sizes=[8]")
    fit(tmp_path, watch, *OWN, *pairs, *head, "trial.episodes_per_trial=1")
    policies, _ = zip(*watch.seen, strict=True)
    assert not torch.equal(policies[0], policies[-1])


def test_the_entropy_bonus_is_the_one_that_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []
    begin = SurrogateProblem.__init__

    def watched(problem, agent, chunks, fisher_chunks, entropy_coefficient: float) -> None:
        seen.append(entropy_coefficient)
        begin(problem, agent, chunks, fisher_chunks, entropy_coefficient)

    monkeypatch.setattr(SurrogateProblem, "__init__", watched)
    schedule = ("learner.entropy_coefficient=0.0", "learner.final_entropy_coefficient=0.2")
    fit(tmp_path, Updates(), *OWN, *schedule)
    assert seen == pytest.approx([0.04 * iteration for iteration in range(5)])


class TRPOOnRanks(TRPO):
    """Checks that all ranks have the same weights, and that all of them have moved."""

    def on_train_start(self) -> None:
        self.initial = weights(self)

    def on_train_end(self) -> None:
        first, second = over_all_ranks(weights(self)).view(world_size(), -1)
        assert torch.equal(first, second)
        assert (first != self.initial).float().mean() > 0.9


def test_two_ranks_learn_together(tmp_path: Path) -> None:
    group = tmp_path / "configs" / "learner"
    group.mkdir(parents=True)
    shipped = (ROOT / "configs" / "learner" / "trpo.yaml").read_text(encoding="utf-8")
    own = shipped.replace("rl2_lightning.learners.trpo.TRPO", f"{__name__}.TRPOOnRanks")
    (group / "ranks.yaml").write_text(own, encoding="utf-8")
    done = run_program(
        tmp_path,
        *("--config-dir", "configs", "learner=ranks", "debug=fast", "trainer.accelerator=cpu"),
        *("trainer.devices=2", "trainer.strategy=ddp", "hydra.run.dir=run"),
        PYTHONPATH=str(ROOT),
    )
    assert done.returncode == 0, done.stderr
    found = Checkpoint.read(tmp_path / "run" / "last.ckpt").content
    assert found["global_step"] == 4 * 8
    assert int(found["state_dict"]["clock.env_steps_done"]) == 16 * 4


def test_policy_and_critic_share_no_weights() -> None:
    env = bandit_trials(4)
    told = r"^learner.critic.separate=false with TRPO: .*; set learner.critic.separate=true$"
    with pytest.raises(UserError, match=told):
        make_learner(make_agent(env), env, "trpo", critic={"separate": False})


def test_a_gradient_scaler_has_no_part_in_the_step() -> None:
    learner, _ = learner_and_windows(bandit_trials(4))
    for precision in ("32-true", "bf16-mixed"):
        learner.settings.check_run(run_shape(4, precision=precision))
    with pytest.raises(UserError, match=r"^trainer.precision=16-mixed with TRPO: .*; set trainer"):
        learner.settings.check_run(run_shape(4, precision="16-mixed"))
