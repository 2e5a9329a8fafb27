"""VariBAD: two losses that do not reach each other's weights, a buffer, and a decoder."""

from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Callback

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.settings import BeliefSettings
from rl2_lightning.checkpoint import Checkpoint
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import NonFiniteLossError, UserError
from rl2_lightning.learners.elbo import draw_prefixes, elbo
from rl2_lightning.learners.varibad import VariBAD
from rl2_lightning.settings import make_settings
from tests.builders import (
    as_minibatch,
    collect,
    corridor_trials,
    every_prefix,
    make_agent,
    make_learner,
    minibatch_of,
    run_shape,
)
from tests.command_line.program import SMALL, call_program
from tests.short_fit import fit

SMALL_RUN = (
    "learner.num_epochs=2",
    "env=grid_navi",
    "env.horizon=4",
    "learner=varibad",
    "learner.num_updates=4",
    "collection.total_env_steps=1280",  # 5 iterations of 16 trials of 16 steps
)


def learner_of(form: str = "moments", **changes) -> VariBAD:
    env = corridor_trials(6)
    agent = make_agent(env, belief=BeliefSettings(form, 3), policy_sees_observation=True)
    return make_learner(agent, env, "varibad", **changes)


def of_belief(learner: VariBAD) -> dict[str, torch.nn.Parameter]:
    parts = ("agent.encoder.", "agent.memory.", "decoder.")
    return {name: p for name, p in learner.named_parameters() if name.startswith(parts)}


def of_policy(learner: VariBAD) -> dict[str, torch.nn.Parameter]:
    parts = ("agent.policy.", "critic.")
    return {name: p for name, p in learner.named_parameters() if name.startswith(parts)}


def test_a_buffer_that_is_too_small_is_one_of_trials() -> None:
    told = r"capacity=31 .* minibatch of .*batch_size=32 trials: set .*capacity=32 or more$"
    with pytest.raises(UserError, match=told):
        make_settings(VariBAD.Settings, {"replay": {"capacity": 31}})
    settings = make_settings(VariBAD.Settings, {"replay": {"capacity": 40}})
    told = r"capacity=40 is less than the trials of an .*num_trials=48: set .*capacity=48 or more$"
    with pytest.raises(UserError, match=told):
        settings.check_run(run_shape(48))


def test_minibatches_of_past_trials_divide_into_ranks() -> None:
    settings = make_settings(VariBAD.Settings, {})
    settings.check_run(run_shape(48, 2))
    with pytest.raises(UserError, match=r"batch_size=32 does not divide into 3 device\(s\): set "):
        settings.check_run(run_shape(48, 3))


@pytest.mark.parametrize(
    ("decoder", "is_refused"),
    [
        ({"reward_likelihood": "bernoulli"}, True),
        ({"reward_likelihood": "normal"}, False),
        (
            {
                "reward_likelihood": "bernoulli",
                "reward_coefficient": 0.0,
                "state_coefficient": 1.0,
            },
            False,
        ),
    ],
)
def test_whether_a_mean_is_positive_is_not_decoded(
    decoder: dict[str, Any], is_refused: bool
) -> None:
    settings = make_settings(VariBAD.Settings, {"decoder": decoder})
    settings.check_run(run_shape(48))
    told = r"bernoulli with .*expected_rewards=true: .*; set collection.expected_rewards=false$"
    with pytest.raises(UserError, match=told) if is_refused else nullcontext():
        settings.check_run(run_shape(48, expected_rewards=True))


def test_each_parameter_has_one_optimiser() -> None:
    learner = learner_of()
    groups = [
        {id(one) for group in optimizer.param_groups for one in group["params"]}
        for optimizer in learner.configure_optimizers()
    ]
    assert groups == [
        {id(one) for one in part(learner).values()} for part in (of_policy, of_belief)
    ]
    assert not groups[0] & groups[1]
    assert groups[0] | groups[1] == {id(one) for one in learner.parameters()}


@pytest.mark.parametrize("form", ["moments", "samples"])
def test_a_poisoned_policy_loss_does_not_reach_the_belief(form: str) -> None:
    learner, env = learner_of(form), corridor_trials(6)
    minibatch = minibatch_of(learner, env)
    window = minibatch[keys.WINDOW]
    for name in (keys.ADVANTAGE, keys.VALUE_TARGET):
        window[name] = torch.full_like(window[name], torch.nan)
    learner.require_finite = lambda *_: None
    learner.window_loss(minibatch).backward()
    assert all(one.grad is None for one in of_belief(learner).values())
    for name, parameter in of_policy(learner).items():
        assert parameter.grad.isnan().all(), name


def test_a_poisoned_bound_does_not_reach_the_policy() -> None:
    learner, env = learner_of(), corridor_trials(6)
    minibatch_of(learner, env)
    steps = learner.played[keys.WINDOW]
    steps[keys.REWARD] = torch.full_like(steps[keys.REWARD], torch.nan)
    learner.require_finite = lambda *_: None
    belief = learner.beliefs_of(learner.played)
    learner.belief_loss(belief, learner.played, every_prefix(belief)).backward()
    assert all(one.grad is None for one in of_policy(learner).values())
    for name, parameter in of_belief(learner).items():
        assert parameter.grad.isnan().any(), name


@pytest.mark.parametrize("prior", ["previous", "standard"])
@pytest.mark.parametrize("decoded_steps", ["trial", "episode"])
def test_the_loss_is_the_bound_that_the_settings_name(prior: str, decoded_steps: str) -> None:
    learner, env = learner_of(prior=prior, decoded_steps=decoded_steps), corridor_trials(6)
    minibatch_of(learner, env)
    belief, played = learner.beliefs_of(learner.played), learner.played
    draw = every_prefix(belief)
    bounds = {
        (one, other): elbo(
            belief,
            learner.decoder,
            played,
            draw,
            kl_coefficient=0.1,
            to_previous=one == "previous",
            within_episodes=other == "episode",
        )[0].item()
        for one in ("previous", "standard")
        for other in ("trial", "episode")
    }
    assert len(set(bounds.values())) == 4
    found = learner.belief_loss(belief, played, draw).item()
    assert found == pytest.approx(-bounds[prior, decoded_steps], rel=1e-6)


def test_the_buffer_takes_the_bytes_that_the_docs_say() -> None:
    env = corridor_trials(50)
    for coefficient in (0.0, 1.0):
        agent = make_agent(env, belief=BeliefSettings("moments", 3))
        learner = make_learner(agent, env, "varibad", decoder={"task_coefficient": coefficient})
        minibatch_of(learner, env)
        # An observation and a task are one number each.
        expected = env.max_steps * (12 * 1 + 37) + 4 * bool(coefficient)
        assert learner.played.bytes() / 50 == pytest.approx(expected, rel=0.01)


class Weights(Callback):
    """Keeps the weights before the training."""

    def on_fit_start(self, trainer, pl_module) -> None:
        self.before = {name: p.detach().clone() for name, p in pl_module.named_parameters()}


@pytest.mark.parametrize(
    ("frozen", "moving", "rates"),
    [
        ("belief", "policy", ("learner.belief_learning_rate=0",)),
        ("policy", "belief", ("learner.learning_rate=0", "learner.final_learning_rate=0")),
    ],
)
def test_each_rate_moves_its_own_weights(
    tmp_path: Path, frozen: str, moving: str, rates: tuple[str, ...]
) -> None:
    weights = Weights()
    learner = fit(tmp_path, weights, *SMALL_RUN, *rates)
    parts = {"belief": of_belief(learner), "policy": of_policy(learner)}
    for name, parameter in parts[frozen].items():
        assert torch.equal(parameter, weights.before[name]), name
    for name, parameter in parts[moving].items():
        assert not torch.equal(parameter, weights.before[name]), name


def test_an_absurd_rate_is_named(tmp_path: Path) -> None:
    told = r"lower learner.learning_rate or learner.belief_learning_rate, and check"
    with pytest.raises(NonFiniteLossError, match=told):
        fit(tmp_path, None, *SMALL_RUN, "learner.belief_learning_rate=1e30")


@pytest.mark.parametrize("name", ["reward_coefficient", "state_coefficient", "task_coefficient"])
@pytest.mark.parametrize("value", [2e30, float("inf"), float("nan"), -1.0])
def test_coefficients_of_decoders_are_numbers_of_float32(name: str, value: float) -> None:
    make_settings(VariBAD.Settings, {"decoder": {name: 1e30}}, "learner")
    told = rf"^learner.decoder.{name}=\S+ is out of range: set it to at (most 1e\+30|least 0)$"
    with pytest.raises(UserError, match=told):
        make_settings(VariBAD.Settings, {"decoder": {name: value}}, "learner")


def test_the_policy_learns_from_the_features_it_acted_on() -> None:
    learner, env = learner_of("samples"), corridor_trials(6)
    trials = collect(env, learner, window=4)
    features = trials[keys.STEPS, keys.FEATURES].clone()
    prepared = learner.prepare(trials, [0, 4, 8, 12])
    mask = prepared[keys.STEPS, keys.MASK].squeeze(-1)
    assert (~mask).any()
    assert torch.equal(prepared[keys.STEPS, keys.FEATURES][mask], features[mask])
    with torch.no_grad():
        # Updates of the belief in the meantime do not matter.
        for parameter in learner.agent.memory.parameters():
            parameter.add_(1.0)
    steps = learner.lined_up_steps(as_minibatch(learner, env, prepared, window=4))
    log_probs = learner.agent.policy(steps[keys.FEATURES]).log_prob(steps[keys.ACTION])
    torch.testing.assert_close(log_probs, steps[keys.ACTION_LOG_PROB], rtol=1e-5, atol=1e-4)


class Rates(Callback):
    """Records the learning rates of policy and belief in each iteration."""

    def __init__(self) -> None:
        self.used: list[tuple[float, float]] = []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if batch_idx == 0:
            rates = [one.param_groups[0]["lr"] for one in trainer.optimizers]
            self.used.append((rates[0], rates[1]))


def test_rates_of_policy_and_belief_fall_over_the_run(tmp_path: Path) -> None:
    rates = Rates()
    starts = ("learner.learning_rate=0.002", "learner.belief_learning_rate=0.01")
    ends = ("learner.final_learning_rate=0.001", "learner.final_belief_learning_rate=0.004")
    learner = fit(tmp_path, rates, *SMALL_RUN, *starts, *ends)
    spent = [iteration / 5 for iteration in range(5)]
    expected = [(0.002 - 0.001 * share, 0.01 - 0.006 * share) for share in spent]
    assert rates.used == [pytest.approx(pair) for pair in expected]
    logged = learner.trainer.callback_metrics["train/belief_learning_rate"]
    assert logged == pytest.approx(expected[-1][1])


class Draws(Callback):
    """Records the trials that the belief is learnt from."""

    def __init__(self) -> None:
        self.indices: list[torch.Tensor] = []
        self.sizes: list[int] = []
        self.kinds = ""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        is_past = keys.INDEX in batch.keys()  # noqa: SIM118
        self.kinds += "p" if is_past else "f"
        if is_past:
            self.indices.append(batch[keys.INDEX])
            self.sizes.append(batch[keys.WINDOW].batch_size[1])


def test_the_belief_is_learnt_on_whole_past_trials(tmp_path: Path) -> None:
    draws = Draws()
    windows = ("collection.window=5", "collection.burn_in=2")
    fit(tmp_path, draws, *SMALL_RUN, *windows)
    assert draws.kinds[:8] == "fpfpfpfp"
    assert set(draws.sizes) == {16}, "of 4 episodes of 4 steps, whatever the window"
    assert torch.cat(draws.indices[:4]).max() < 16, "the first iteration has 16 trials"
    assert torch.cat(draws.indices).max() >= 16


def test_noise_differs_between_updates_and_not_between_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[torch.Tensor] = []

    def spy(*arguments):
        draw = draw_prefixes(*arguments)
        drawn.append(draw.noise)
        return draw

    monkeypatch.setattr("rl2_lightning.learners.varibad.draw_prefixes", spy)
    for run in ("one", "two"):
        fit(tmp_path / run, Callback(), *SMALL_RUN)
    one, two = drawn[:20], drawn[20:]
    assert len(two) == 20
    assert all(map(torch.equal, one, two))
    assert len({noise.sum().item() for noise in one}) == 20


def test_the_deployed_agent_has_no_decoder(tmp_path: Path) -> None:
    call_program(tmp_path, *SMALL, *SMALL_RUN, f"hydra.run.dir={tmp_path / 'run'}")
    path = tmp_path / "run" / "last.ckpt"
    stored = Checkpoint.read(path).content["state_dict"]
    assert any(name.startswith("decoder.") for name in stored)
    agent = Agent.load(path)
    assert not any("decoder" in name for name, _ in agent.named_parameters())
    assert {f"agent.{name}" for name in agent.state_dict()} == {
        name for name in stored if name.startswith("agent.")
    }


@pytest.mark.parametrize(
    "overrides",
    [
        "agent.belief.form=samples",
        "agent.policy_head=hypernetwork",
        "learner.prior=standard learner.decoded_steps=episode learner.num_prefixes=3",
        "learner.decoder.state_coefficient=0.5 learner.decoder.task_coefficient=1",
        "learner.critic.separate=true learner.critic.sees_task=true",
        "trial.continues=true learner.gamma=0.9",
        "learner.target_kl=0.0001",
        "env=point_robot learner.decoder.state_coefficient=1 learner.decoder.task_coefficient=1",
        "env=visual_maze env.size=2 memory=matrix",
    ],
)
def test_options_train(tmp_path: Path, overrides: str) -> None:
    weights = Weights()
    # The last family wins.
    learner = fit(tmp_path, weights, *SMALL_RUN, *overrides.split())
    moved = {
        name
        for name, parameter in chain(of_policy(learner).items(), of_belief(learner).items())
        if not torch.equal(parameter, weights.before[name])
    }
    assert any(name.startswith("decoder.") for name in moved)
    assert any(name.startswith("agent.policy.") for name in moved)
    assert any(name.startswith("agent.memory.") for name in moved)


def test_a_belief_learns_where_the_goal_is() -> None:
    # Trials of a random walk: the belief's bound rises above that of a constant prediction.
    env = corridor_trials(64)
    agent = make_agent(env, belief=BeliefSettings("moments", 3), gain=1)
    learner = make_learner(agent, env, "varibad", belief_learning_rate=1e-2)
    learner.prepare(collect(env, learner), [0])
    (_, optimizer), bounds = learner.configure_optimizers(), []
    for update in range(150):
        belief = learner.beliefs_of(learner.played)
        draw = draw_prefixes(belief, None, torch.Generator().manual_seed(update))
        loss = learner.belief_loss(belief, learner.played, draw)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        bounds.append(-loss.item())
    steps = learner.played[keys.WINDOW]
    mask, reward = steps[keys.MASK], steps[keys.REWARD]
    spread = (reward - reward[mask].mean()).masked_fill(~mask, 0).square().sum(dim=1)
    constant = -0.5 * (spread * mask.sum(dim=1)).sum() / mask.numel()
    assert bounds[-1] > 0.5 * constant.item()
    features, _ = agent.unroll(inputs_of(steps), agent.initial_state(64))
    assert features.std() > 0.1
