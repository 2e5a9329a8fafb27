"""Inputs in units of their running spread."""

from pathlib import Path

import pytest
import torch
from tensordict import TensorDict
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.encoders.normaliser import LARGEST, RunningSpread
from rl2_lightning.agents.settings import BeliefSettings
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.normalisation import measure_inputs
from rl2_lightning.learners.ppo import PPO
from tests.builders import collect, corridor_trials, make_agent, make_learner, point_trials
from tests.command_line.program import SMALL, call_program
from tests.views import view_trials

BOTH = ["observation", "reward"]


def measured(spread: RunningSpread, *parts: Tensor) -> RunningSpread:
    for part in parts:
        spread.measure(*spread.deviations(part, torch.ones(len(part), dtype=torch.bool)))
        spread.update()
    return spread


def test_parts_give_the_statistics_of_the_whole() -> None:
    numbers = 1000 + torch.tensor([1.0, 50.0, 0.0]) * torch.randn(300, 3)
    spread = measured(RunningSpread(3, centred=True), *numbers.split([1, 99, 0, 200]))
    assert spread.count == 300
    torch.testing.assert_close(spread.mean, numbers.double().mean(0))
    expected = numbers.double().var(0, correction=0)
    torch.testing.assert_close(spread.variance, expected, rtol=1e-3, atol=1e-2)
    seen = spread(numbers)
    assert seen[:, :2].std(0).tolist() == pytest.approx([1, 1], rel=0.01)
    assert seen.abs().max() <= LARGEST


@pytest.mark.parametrize("mean", [1e2, 1e4])
def test_a_large_mean_leaves_the_first_spread(mean: float) -> None:
    numbers = mean + torch.randn(12_800, 1)
    spread = measured(RunningSpread(1, centred=True), numbers)
    expected = numbers.double().var(0, correction=0)
    torch.testing.assert_close(spread.variance, expected, rtol=1e-4, atol=0)
    assert spread(numbers).dtype == torch.float32


def test_sums_of_ranks_are_those_of_one() -> None:
    numbers, counts = torch.randn(60, 2), torch.rand(60) > 0.3
    one, both = (measured(RunningSpread(2, centred=True), torch.randn(9, 2)) for _ in range(2))
    both.load_state_dict(one.state_dict())
    one.measure(*one.deviations(numbers, counts))
    shares = [both.deviations(numbers[rows], counts[rows]) for rows in (slice(20), slice(20, 60))]
    both.measure(*(sum(parts) for parts in zip(*shares, strict=True)))
    for spread in (one, both):
        spread.update()
    torch.testing.assert_close(both.state_dict(), one.state_dict())


def test_nothing_is_seen_differently_before_something_is_measured() -> None:
    numbers = torch.randn(5, 2).clamp(-3, 3)
    for centred in (False, True):
        spread = RunningSpread(2, centred=centred)
        spread.update()
        torch.testing.assert_close(spread(numbers), numbers)


def test_idle_steps_are_not_measured() -> None:
    env = corridor_trials(8)
    learner = make_learner(make_agent(env, normalised=BOTH), env)
    steps = collect(env, learner)[keys.STEPS]
    plays = steps[keys.MASK].squeeze(-1)
    assert not plays.all()
    for name in (keys.OBSERVATION, keys.PREVIOUS_REWARD):
        steps[name] = steps[name].masked_fill(~steps[keys.MASK], torch.nan)
    measure_inputs(learner, steps)
    learner.begin_collection()
    normaliser = learner.agent.encoder.normaliser
    observation = normaliser.observations["of_"]
    torch.testing.assert_close(observation.mean, steps[keys.OBSERVATION][plays].double().mean(0))
    earned = steps[keys.PREVIOUS_REWARD][plays & ~steps[keys.IS_INIT].squeeze(-1)]
    assert normaliser.reward.count == len(earned)
    unit = earned.square().mean().sqrt()
    torch.testing.assert_close(normaliser.earned(earned), earned / unit)


def require_the_policy_that_played(learner: PPO, env: TrialEnv) -> TensorDict:
    """Collect twice, compare the probabilities of the actions, and return the last steps."""
    agent = learner.agent
    for seed in (1, 2):
        learner.begin_collection()
        steps = collect(env, learner, seed=seed)[keys.STEPS]
        learner.note_inputs(steps)
        features, _ = agent.unroll(inputs_of(steps), agent.initial_state(len(steps)))
        counts = steps[keys.MASK].squeeze(-1)
        log_probs = agent.policy(features).log_prob(steps[keys.ACTION])
        expected = steps[keys.ACTION_LOG_PROB][counts]
        torch.testing.assert_close(log_probs[counts], expected, atol=1e-4, rtol=1e-4)
    return steps


@pytest.mark.parametrize("make_trials", [corridor_trials, point_trials, view_trials])
def test_a_policy_does_not_change_while_it_is_learnt_from(make_trials) -> None:
    env = make_trials(6)
    agent = make_agent(env, normalised=BOTH)
    learner = make_learner(agent, env, critic={"separate": True})
    require_the_policy_that_played(learner, env)
    assert agent.encoder.normaliser.reward.count > 0
    for name, buffer in agent.encoder.normaliser.named_buffers():
        assert torch.equal(dict(learner.critic.encoder.normaliser.named_buffers())[name], buffer)


def normalised_belief(form: str, memory: str = "gru", *, separate: bool = False):
    """Learner and environment of an agent on a belief in units of its spread."""
    env = corridor_trials(6)
    belief = BeliefSettings(form=form, size=3, normalised=True)
    agent = make_agent(env, memory, belief=belief, policy_sees_observation=True)
    return make_learner(agent, env, critic={"separate": separate}), env


@pytest.mark.parametrize("memory", ["gru", "matrix", "snail"])
@pytest.mark.parametrize("form", ["moments", "samples"])
@pytest.mark.parametrize("separate", [False, True])
def test_a_belief_is_measured_where_it_is_used(memory: str, form: str, separate: bool) -> None:
    learner, env = normalised_belief(form, memory, separate=separate)
    learner.begin_collection()
    steps = collect(env, learner)[keys.STEPS]
    plays = steps[keys.MASK].squeeze(-1)
    assert not plays.all()
    mean, log_variance = learner.agent.beliefs(inputs_of(steps), steps[keys.MASK])
    raw = mean if form == "samples" else torch.cat([mean, log_variance], dim=-1)
    for name in (keys.OBSERVATION, keys.PREVIOUS_REWARD):
        steps[name] = steps[name].masked_fill(~steps[keys.MASK], torch.nan)
    learner.note_inputs(steps)
    learner.begin_collection()
    spread = learner.agent.memory.inner.spread
    assert spread.count == plays.sum()
    torch.testing.assert_close(spread.mean, raw[plays].double().mean(0))
    own = learner.critic.memory.inner.spread.count if separate else spread.count
    assert own == plays.sum()


@pytest.mark.parametrize("separate", [False, True])
def test_a_policy_on_a_belief_does_not_change_while_it_is_learnt_from(separate: bool) -> None:
    learner, env = normalised_belief("moments", separate=separate)
    agent = learner.agent
    steps = require_the_policy_that_played(learner, env)
    counts = steps[keys.MASK].squeeze(-1)
    learner.begin_collection()
    features, _ = agent.unroll(inputs_of(steps), agent.initial_state(6))
    beliefs = features[..., -6:][counts]  # behind the observation
    assert beliefs.std(0).tolist() == pytest.approx([1] * 6, rel=0.5)
    raw = torch.cat(agent.beliefs(inputs_of(steps)), dim=-1)[counts]
    torch.testing.assert_close(agent.memory.inner.spread(raw), beliefs)


def test_an_input_that_cannot_be_normalised() -> None:
    with pytest.raises(UserError, match=r"^agent\.normalised=\['actions'\]: name inputs of"):
        make_agent(corridor_trials(1), normalised=["actions"])


def weights(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "last.ckpt", weights_only=True)["state_dict"]


def test_statistics_are_stored_resumed_and_frozen(tmp_path: Path) -> None:
    chosen = (
        *SMALL,
        "env=point_robot",
        "agent.normalised=[observation,reward]",
        "callbacks.checkpoint.every_n_epochs=1",
    )
    for name, given in {
        "first": (),
        "whole": ("trainer.max_epochs=2",),
        "resumed": ("trainer.max_epochs=2", f"ckpt_path={tmp_path}/first/last.ckpt"),
    }.items():
        call_program(tmp_path, *chosen, *given, f"hydra.run.dir={tmp_path / name}")
    whole, resumed = weights(tmp_path / "whole"), weights(tmp_path / "resumed")
    assert whole.keys() == resumed.keys()
    for name, tensor in whole.items():
        assert torch.equal(tensor, resumed[name]), name
    agent = Agent.load(tmp_path / "whole" / "last.ckpt")
    before = {name: tensor.clone() for name, tensor in agent.state_dict().items()}
    assert before["encoder.normaliser.observations.of_.count"] > 0
    inputs, state = agent.first_inputs(torch.randn(3, 2)), agent.initial_state(3)
    agent.act(inputs, state)
    assert all(torch.equal(tensor, before[name]) for name, tensor in agent.state_dict().items())
