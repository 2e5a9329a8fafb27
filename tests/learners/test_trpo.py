"""TRPO: its objective, the Fisher-vector product, the step within the trust region, the critic."""

from itertools import product
from pathlib import Path

import pytest
import torch
from lightning.pytorch import Callback
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Normal, kl_divergence
from torch.nn.utils import parameters_to_vector

from rl2_lightning import keys
from rl2_lightning.data.windows import as_tensordict, inputs_of, state_of
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.learner import RunShape
from rl2_lightning.learners.natural_gradient import assign, flat_gradient
from rl2_lightning.learners.surrogate import Measure, SurrogateProblem
from rl2_lightning.learners.trpo import TRPO
from rl2_lightning.learners.windows import line_up_entries, window_features
from tests.builders import (
    MEMORIES,
    as_minibatch,
    bandit_trials,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    minibatch_of,
    point_trials,
    poisoned,
    starts_of,
)
from tests.learners.short_fit import fit

WINDOWS = [(None, 0), (4, 2)]


def learner_and_windows(
    env: TrialEnv,
    memory: str = "gru",
    *,
    window: int | None = None,
    burn_in: int = 0,
    gain: float | None = None,
    **changes: object,
) -> tuple[TRPO, TensorDictBase]:
    learner = make_learner(make_agent(env, memory, gain=gain), env, "trpo", **changes)
    return learner, minibatch_of(learner, env, window=window, burn_in=burn_in)


def problem_of(learner: TRPO, windows: TensorDictBase, coefficient: float = 0.0):
    return SurrogateProblem(learner.agent, [windows], [windows], coefficient)


def weights(module: torch.nn.Module) -> Tensor:
    return parameters_to_vector(module.parameters()).detach().clone()


def direction_of(learner: TRPO, seed: int = 3) -> Tensor:
    torch.manual_seed(seed)
    found = torch.randn_like(weights(learner.agent))
    return found / found.norm()


def features_of(learner: TRPO, windows: TensorDictBase) -> Tensor:
    """The agent's features in the steps that count."""
    features = window_features(learner.agent, windows)
    return line_up_entries(windows[keys.WINDOW], {keys.FEATURES: features})[keys.FEATURES]


def warmed(learner: TRPO, windows: TensorDictBase) -> TensorDictBase:
    """The windows with the states that their burn-ins lead to, and without the burn-ins."""
    if windows.get(keys.BURN_IN, None) is None:
        return windows
    agent, burn_in = learner.agent, windows[keys.BURN_IN]
    state = state_of(windows[keys.MEMORY_STATE])
    with torch.no_grad():
        _, state = agent.unroll(inputs_of(burn_in), state, playing=burn_in[keys.MASK])
        state = agent.memory.restart(state, ~windows[keys.HAS_BURN_IN])
    fixed = windows.exclude(keys.BURN_IN, keys.HAS_BURN_IN)
    return fixed.set(keys.MEMORY_STATE, as_tensordict(state, windows.batch_size))


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials])
@pytest.mark.parametrize(("memory", "sizes"), list(product(MEMORIES, WINDOWS)))
def test_fisher_vector_product_is_a_finite_difference(make_trials, memory: str, sizes) -> None:
    env = make_trials(6)
    window, burn_in = sizes
    # A policy that is neither uniform nor certain.
    gain = 30 if make_trials is corridor_trials else 5
    learner, windows = learner_and_windows(env, memory, window=window, burn_in=burn_in, gain=gain)
    parameters = list(learner.agent.parameters())
    old, direction = weights(learner.agent), direction_of(learner)
    # A burn-in passes no gradient on.
    fixed = warmed(learner, windows)
    with torch.no_grad():
        before = learner.agent.policy(features_of(learner, fixed))

    def gradient(distance: float) -> Tensor:
        assign(parameters, old + distance * direction)
        after = learner.agent.policy(features_of(learner, fixed))
        return flat_gradient(kl_divergence(before, after).mean(), parameters)

    # Two differences, whose errors of second order cancel.
    near, far = ((gradient(h) - gradient(-h)) / (2 * h) for h in (0.002, 0.004))
    assign(parameters, old)
    expected = (4 * near - far) / 3
    found = problem_of(learner, windows).fisher_vector_product(direction)
    assert expected.norm() > 1e-4
    assert (found - expected).norm() < 0.01 * expected.norm()


@pytest.mark.parametrize("head", ["layers", "hypernetwork", "action_queries"])
def test_fisher_matrix_is_the_covariance_of_the_scores(head: str) -> None:
    env = corridor_trials(3)
    agent = make_agent(env, gain=30, policy_head=head, hidden_sizes=(6,))
    learner = make_learner(agent, env, "trpo")
    windows = minibatch_of(learner, env)
    direction, parameters = direction_of(learner), list(agent.parameters())
    log_probabilities = torch.log_softmax(agent.policy(features_of(learner, windows)).logits, -1)
    expected = torch.zeros_like(direction)
    for of_step in log_probabilities:
        for one in of_step:
            (*score,) = torch.autograd.grad(
                one, parameters, retain_graph=True, materialize_grads=True
            )
            flat = parameters_to_vector(score)
            expected += one.exp().detach() * (flat @ direction) * flat
    expected /= len(log_probabilities)
    found = problem_of(learner, windows).fisher_vector_product(direction)
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_divergence_of_squashed_actions_is_that_of_the_normal_ones() -> None:
    env = point_trials(4)
    learner, windows = learner_and_windows(env)
    policy = learner.agent.policy
    with torch.no_grad():
        features = features_of(learner, windows)
        old, new = policy(features), policy(0.5 * features)
    normal = [Normal(one.loc, one.scale) for one in (old, new)]
    torch.testing.assert_close(kl_divergence(old, new), kl_divergence(*normal).sum(-1))
    # The mean of the logarithm of the ratio, over actions of the old policy.
    torch.manual_seed(0)
    drawn = old.sample((20_000,))
    sampled = (old.log_prob(drawn) - new.log_prob(drawn)).mean(0)
    torch.testing.assert_close(kl_divergence(old, new), sampled, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials])
def test_objective_is_the_surrogate_with_the_entropy_bonus(make_trials) -> None:
    learner, windows = learner_and_windows(make_trials(6))
    problem, parameters = problem_of(learner, windows, 0.3), list(learner.agent.parameters())
    before = problem.measure()
    assert before.divergence == pytest.approx(0, abs=1e-6)
    # Advantages are centred and all ratios are 1.
    assert before.objective == pytest.approx(0.3 * before.entropy, abs=1e-4)
    with torch.no_grad():
        old = learner.agent.policy(features_of(learner, windows))
        assign(parameters, weights(learner.agent) + direction_of(learner))
    new = learner.agent.policy(features_of(learner, windows))
    window = windows[keys.WINDOW]
    names = (keys.ACTION, keys.ACTION_LOG_PROB, keys.ADVANTAGE)
    steps = line_up_entries(window, {name: window[name] for name in names})
    assert len(steps) == window[keys.MASK].sum()
    ratio = (new.log_prob(steps[keys.ACTION]) - steps[keys.ACTION_LOG_PROB]).exp()
    expected = (ratio * steps[keys.ADVANTAGE].squeeze(-1)).mean() + 0.3 * new.entropy().mean()
    found = problem.measure()
    assert found.objective == pytest.approx(expected.item(), rel=1e-4, abs=1e-5)
    assert found.divergence == pytest.approx(kl_divergence(old, new).mean().item(), rel=1e-2)
    torch.testing.assert_close(
        problem.gradient(), flat_gradient(expected, parameters), rtol=1e-3, atol=1e-5
    )


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials, point_trials])
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


OWN = ("learner=trpo", "~learner.value_coefficient")


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


def test_policy_and_critic_share_no_weights() -> None:
    env = bandit_trials(4)
    told = r"^learner.critic.separate=false with TRPO: .*; set learner.critic.separate=true$"
    with pytest.raises(UserError, match=told):
        make_learner(make_agent(env), env, "trpo", critic={"separate": False})


def test_a_gradient_scaler_has_no_part_in_the_step() -> None:
    learner, _ = learner_and_windows(bandit_trials(4))
    for precision in ("32-true", "bf16-mixed"):
        learner.settings.check_run(RunShape({"collection.num_trials": 4}, 1, precision))
    with pytest.raises(UserError, match=r"^trainer.precision=16-mixed with TRPO: .*; set trainer"):
        learner.settings.check_run(RunShape({"collection.num_trials": 4}, 1, "16-mixed"))
