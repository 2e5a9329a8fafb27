"""Meta-gradients: exact, of the update that is made, and without effect where they are off."""

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from rl2_lightning import keys
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.credit import trial_advantages
from rl2_lightning.learners.meta_parameters import MetaGradientSettings
from rl2_lightning.settings import make_settings
from tests.builders import (
    MEMORIES,
    as_minibatch,
    bandit_trials,
    collect,
    corridor_trials,
    minibatch_of,
    point_trials,
    poisoned,
    run_shape,
    starts_of,
)
from tests.command_line.program import run_program
from tests.learners.meta_gradients import ALL, Problem, make_meta_learner
from tests.short_fit import fit

ONCE = ("learner.num_minibatches=1",)  # an update in each iteration


@pytest.fixture(autouse=True)
def _default_dtype() -> Iterator[None]:
    yield
    torch.set_default_dtype(torch.float32)


def require_finite_differences(problem: Problem, names: list[str]) -> None:
    learner = problem.learner
    found = dict(zip(learner.meta.names, problem.meta_gradient().tolist(), strict=True))
    for name in names:
        expected = problem.finite_difference(name, 1e-4)
        assert abs(expected) > 1e-7
        assert found[name] == pytest.approx(expected, rel=1e-5), name


@pytest.mark.parametrize("clip", [None, 0.05])
@pytest.mark.parametrize("embedding", [0, 4])
@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials])
def test_meta_gradient_is_a_finite_difference(
    monkeypatch: pytest.MonkeyPatch, make_trials, embedding: int, clip: float | None
) -> None:
    env = make_trials(8)
    agent = {"discount_embedding": embedding, "gain": 3}
    learner = make_meta_learner(env, clip=clip, agent=agent, normalise_advantages=clip is None)
    require_finite_differences(Problem(learner, env, monkeypatch), ALL)


@pytest.mark.parametrize("separate", [False, True])
@pytest.mark.parametrize("memory", MEMORIES)
def test_so_it_is_with_each_memory_in_windows(
    monkeypatch: pytest.MonkeyPatch, memory: str, separate: bool
) -> None:
    env = corridor_trials(8)
    learner = make_meta_learner(
        env,
        memory=memory,
        agent={"discount_embedding": 4, "gain": 3},
        critic={"separate": separate},
        meta_parameters=["gamma", "gae_lambda"],
    )
    require_finite_differences(Problem(learner, env, monkeypatch, window=6), learner.meta.names)


def test_the_trace_decays() -> None:
    env = corridor_trials(8)
    kept = make_meta_learner(env, trace_decay=0.5)
    plain = make_meta_learner(env)
    expected = torch.zeros_like(kept.trace)
    for seed in (1, 2, 3):
        derivatives = plain.inner_derivatives(minibatch_of(plain, env, seed=seed))
        for learner in (plain, kept):
            learner.update(*derivatives)
        expected = 0.5 * expected + plain.trace
        torch.testing.assert_close(kept.trace, expected)
    assert not torch.equal(kept.trace, plain.trace)


@pytest.mark.parametrize(("window", "burn_in"), [(None, 0), (4, 3)])
def test_masked_steps_change_nothing(window: int | None, burn_in: int) -> None:
    env, sizes = corridor_trials(9), {"window": window, "burn_in": burn_in}
    starts, found = starts_of(env, **sizes), []
    for poison in (False, True):
        learner = make_meta_learner(env, critic={"separate": True}, meta_parameters=ALL[:2])
        trials = collect(env, learner, **sizes)
        prepared = learner.prepare(poisoned(trials, starts) if poison else trials, starts)
        windows = as_minibatch(learner, env, prepared, **sizes)
        learner.update(*learner.inner_derivatives(windows))
        found.append((learner.trace, learner.outer_gradient(windows)))
    for one, other in zip(*found, strict=True):
        assert one.any()
        assert torch.equal(one, other)


def test_the_outer_gradient_does_not_depend_on_the_chunks() -> None:
    env, found = corridor_trials(12), []
    for num_minibatches in (1, 3):
        learner = make_meta_learner(env, num_minibatches=num_minibatches)
        found.append(learner.outer_gradient(minibatch_of(learner, env)))
    torch.testing.assert_close(*found)


def test_windows_of_idle_steps_change_nothing() -> None:
    env = corridor_trials(9)
    learner = make_meta_learner(env, num_minibatches=2)
    windows = minibatch_of(learner, env, window=5)
    playing = windows[keys.WINDOW, keys.MASK].flatten(1).any(dim=1)
    idle = windows[~playing]
    assert 0 < len(idle) < len(windows)
    gradient, derivatives = learner.inner_derivatives(idle)
    assert not gradient.any()
    assert not derivatives.any()
    expected = learner.outer_gradient(windows)
    ordered = torch.cat([windows[playing], idle])
    torch.testing.assert_close(learner.outer_gradient(ordered), expected)


@pytest.mark.parametrize("embedding", [0, 4])
def test_it_runs_in_bfloat16(tmp_path: Path, embedding: int) -> None:
    choice = ("learner=meta_gradient", f"agent.discount_embedding={embedding}")
    learner = fit(tmp_path, None, *choice, *ONCE, "trainer.precision=bf16-mixed")
    assert learner.trace.dtype == torch.float32
    assert learner.trace.any()
    assert learner.discounts != pytest.approx((0.95, 0.95), rel=1e-6)


def test_an_outer_rate_of_zero_is_a2c(tmp_path: Path) -> None:
    same = ("learner.gamma=0.9", "learner.gae_lambda=0.8", "learner.num_minibatches=2")
    plain = fit(tmp_path / "plain", None, "learner=a2c", *same)
    still = ("learner=meta_gradient", "learner.outer_learning_rate=0")
    meta = fit(tmp_path / "meta", None, *still, *same)
    assert meta.trace.any()
    assert meta.discounts == pytest.approx((0.9, 0.8))
    state = meta.state_dict()
    for name, tensor in plain.state_dict().items():
        torch.testing.assert_close(state[name], tensor, msg=name)


def test_an_absurd_rate_is_named(tmp_path: Path) -> None:
    told = (
        r"^the weights' norm is inf .*: lower learner.learning_rate or learner.outer_learning_rate,"
    )
    with pytest.raises(NonFiniteLossError, match=told):
        fit(tmp_path, None, "learner=meta_gradient", *ONCE, "learner.outer_learning_rate=1e30")


class Discounts(Callback):
    """Records γ and λ, what the agent sees of them, and what else is learnt, in each iteration."""

    def __init__(self) -> None:
        self.seen: list[list[float]] = []
        self.used: list[dict[str, float]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        self.seen.append([*pl_module.discounts, *pl_module.agent.encoder.discounts.tolist()])
        with torch.no_grad():
            value_weight, entropy_weight = map(float, pl_module.loss_weights())
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        names = ("value_coefficient", "entropy_coefficient", "learning_rate")
        self.used.append(dict(zip(names, (value_weight, entropy_weight, rate), strict=True)))


def test_what_is_learnt_moves_and_is_logged(tmp_path: Path) -> None:
    watch = Discounts()
    learner = fit(
        tmp_path,
        watch,
        *ONCE,
        "learner=meta_gradient",
        "learner.outer_learning_rate=0.1",
        f"learner.meta_parameters=[{','.join(ALL)}]",
        "learner.critic.separate=false",
        "agent.discount_embedding=4",
    )
    assert len(watch.seen) == 5
    for gamma, gae_lambda, *embedded in watch.seen:
        assert embedded == pytest.approx([gamma, gae_lambda])
    # Nothing is known before the first update.
    assert watch.seen[0] == pytest.approx([0.95] * 4)
    assert watch.seen[1] == pytest.approx(watch.seen[0])
    assert abs(watch.seen[4][0] - 0.95) > 1e-3
    logged = learner.trainer.callback_metrics
    assert logged["train/gamma"] == pytest.approx(watch.seen[4][0])
    assert logged["train/gae_lambda"] == pytest.approx(watch.seen[4][1])
    assert all(f"train/meta_gradient_{name}" in logged for name in ALL)
    # What the last iteration used; four fifths of the budget were spent before it.
    of_last = watch.used[4]
    for name, value in of_last.items():
        assert logged[f"train/{name}"] == pytest.approx(value)
    scheduled = {"value_coefficient": 0.25, "entropy_coefficient": 0.004, "learning_rate": 6e-4}
    for name, value in scheduled.items():
        factor = of_last[name] / value
        assert factor != pytest.approx(1, abs=1e-4)
        assert 0.5 < factor < 2


@pytest.mark.parametrize("normalises", [False, True])
def test_the_outer_objective_has_the_discounts_of_the_reference(normalises: bool) -> None:
    env = corridor_trials(8)
    learner = make_meta_learner(env, normalise_advantages=normalises)
    trials = collect(env, learner)
    values = learner.values_of(learner.critic.add_values(trials, [0])[keys.STEPS])
    steps = learner.prepare(trials, [0])[keys.STEPS]
    # Those of `make_meta_learner`; the learner's own are 0.99 and 0.9.
    expected, _ = trial_advantages(steps, values, gamma=0.97, gae_lambda=0.95)
    mask = steps[keys.MASK]
    expected = expected[mask] - expected[mask].mean()
    unit = expected.std() if normalises else learner.value_scale.scale()
    torch.testing.assert_close(steps[keys.REFERENCE_ADVANTAGE][mask], expected / unit)


def test_the_outer_step_climbs(monkeypatch: pytest.MonkeyPatch) -> None:
    env = corridor_trials(6)
    learner = make_meta_learner(env, num_minibatches=2)
    windows = minibatch_of(learner, env)
    learner.fresh = type("Fresh", (), {"windows": windows, "__len__": lambda self: 2})()
    ascent = torch.tensor([1.0, -1.0, 2.0, -3.0, 1.0])
    monkeypatch.setattr(learner, "meta_gradient", lambda _: ascent)
    before = torch.stack([one.detach().clone() for one in learner.meta.parameters()])
    moved = []
    for number, part in enumerate(windows.split(3)):
        learner.training_step(part, number)
        moved.append(torch.stack([one.detach() for one in learner.meta.parameters()]) - before)
    assert not moved[0].any(), "the step is taken at the end of the iteration"
    assert torch.equal(moved[1].sign(), ascent.sign())


def test_the_outer_step_changes_no_weight() -> None:
    env = corridor_trials(6)
    learner = make_meta_learner(env)
    learner.update(*learner.inner_derivatives(minibatch_of(learner, env)))
    before = {name: tensor.clone() for name, tensor in learner.state_dict().items()}
    learner.apply_gradients(1, torch.ones(len(ALL)).unbind())
    moved = {n for n, one in learner.state_dict().items() if not torch.equal(one, before[n])}
    assert moved == {f"meta.free.{name}" for name in ALL}


def test_a_training_from_weights_forgets_the_trace() -> None:
    env = corridor_trials(6)
    trained, fresh = make_meta_learner(env), make_meta_learner(env)
    trained.update(*trained.inner_derivatives(minibatch_of(trained, env)))
    assert trained.trace.any()
    fresh.take_weights(trained.state_dict())
    assert not fresh.trace.any()
    assert torch.equal(fresh.critic.of_features.weight, trained.critic.of_features.weight)


MISTAKES = {
    "gamma of 1": ({"gamma": 1.0}, r"^learner.gamma=1.0 is learned through a sigmoid.*e.g. 0.99"),
    "gamma of 0": ({"gamma": 0.0}, r"^learner.gamma=0.0 is learned"),
    "gamma above 1": (
        {"gamma": 1.0001},
        r"^learner.gamma=1.0001 is out of range: set it to .* above 0 and below 1, e.g. 0.99$",
    ),
    "fixed gamma above 1": (
        {"gamma": 1.0001, "meta_parameters": ["gae_lambda"]},
        r"^learner.gamma=1.0001 is out of range: set it to a number within 0 and 1$",
    ),
    "lambda below 0": ({"gae_lambda": -0.1}, r"^learner.gae_lambda=-0.1 is out of range: "),
    "lambda of 1": ({"gae_lambda": 1.0}, r"^learner.gae_lambda=1.0 is learned"),
    "no number": ({"gamma": float("nan")}, r"^learner.gamma=nan is out of range"),
    "nothing": ({"meta_parameters": []}, r"leaves nothing to learn: use learner=a2c$"),
    "unknown": ({"meta_parameters": ["alpha"]}, r": alpha is unknown; known are gamma, "),
    "twice": ({"meta_parameters": ["gamma"] * 2}, r"\] names gamma twice: name it once$"),
    "no entropy": (
        {"meta_parameters": ["entropy_coefficient"], "entropy_coefficient": 0.0},
        r"entropy_coefficient has no effect with learner.entropy_coefficient=0; .* leave it out$",
    ),
    "no critic's loss": (
        {"meta_parameters": ["gamma", "value_coefficient"], "value_coefficient": 0.0},
        r"value_coefficient has no effect with learner.value_coefficient=0",
    ),
    "lambda beside a gamma of 0": (
        {"meta_parameters": ["gae_lambda"], "gamma": 0.0},
        r"gae_lambda has no effect with learner.gamma=0; change that, or leave it out$",
    ),
    "separate critic": (
        {"meta_parameters": ["value_coefficient"], "critic": {"separate": True}},
        r"value_coefficient has no effect with learner.critic.separate=true",
    ),
    "no rate": (
        {"meta_parameters": ["learning_rate"], "learning_rate": 0.0},
        r"learning_rate has no effect with learner.learning_rate=0",
    ),
}


@pytest.mark.parametrize(("given", "told"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_are_told_in_a_line(given: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as error:
        make_settings(MetaGradientSettings, given, "learner")
    assert "\n" not in str(error.value)


def test_what_is_not_learnt_may_be_anything() -> None:
    settings = make_settings(
        MetaGradientSettings, {"gamma": 1.0, "meta_parameters": ["gae_lambda"]}, "learner"
    )
    with pytest.raises(UserError, match=r"set trainer.precision=bf16-mixed$"):
        settings.check_run(run_shape(precision="16-mixed"))


@pytest.mark.parametrize(
    ("learned", "continues", "told"),
    [
        (ALL, False, "gamma and gae_lambda have no effect in .* 1 env step; .* leave them out$"),
        (["gae_lambda"], False, "gae_lambda has no effect in trials of 1 env step; .* it out$"),
        (["gamma", "gae_lambda"], True, ": gae_lambda has no effect in trials of 1 env step; "),
        (["gamma"], True, None),
        (ALL[2:], False, None),
    ],
)
def test_discounts_need_trials_of_several_steps(
    learned: list[str], continues: bool, told: str | None
) -> None:
    given = {"meta_parameters": learned}
    settings = make_settings(MetaGradientSettings, given, "learner")
    settings.check_run(run_shape(trial_steps=2))
    refused = pytest.raises(UserError, match=told) if told else nullcontext()
    with refused:
        settings.check_run(run_shape(trial_steps=1, continues=continues))


def test_trials_of_one_step_teach_nothing_about_discounts() -> None:
    # A curriculum may begin with them.
    env = bandit_trials(6, num_episodes=1)
    learner = make_meta_learner(env, meta_parameters=["gamma", "gae_lambda"])
    learner.update(*learner.inner_derivatives(minibatch_of(learner, env)))
    assert not learner.trace.any()


def test_gamma_has_an_effect_in_a_cut_of_one_step() -> None:
    env = bandit_trials(6, num_episodes=1, continues=True)
    learner = make_meta_learner(env, meta_parameters=["gamma", "gae_lambda"])
    learner.update(*learner.inner_derivatives(minibatch_of(learner, env)))
    of_lambda, of_gamma = learner.trace
    assert of_gamma.any()
    assert not of_lambda.any()


def test_two_ranks_run(tmp_path: Path) -> None:
    done = run_program(
        tmp_path,
        *("learner=meta_gradient", "debug=fast", "trainer.accelerator=cpu", "trainer.devices=2"),
        *("trainer.max_epochs=2", "hydra.run.dir=run"),
    )
    assert done.returncode == 0, done.stderr
    found = Checkpoint.read(tmp_path / "run" / "last.ckpt").content
    assert found["global_step"] == 2 * 2
    assert len(found["optimizer_states"]) == 2
    assert found["state_dict"]["trace"].any()
    assert not torch.equal(found["state_dict"]["meta.free.gamma"], torch.tensor(0.95).logit())
