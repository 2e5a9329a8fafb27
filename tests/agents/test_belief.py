"""Beliefs as features: moments or samples, in steps as in windows, and built from a spec."""

from itertools import product

import pytest
import torch
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.agents.belief import LARGEST_LOG_VARIANCE, NUM_DRAWS, Belief, BeliefMemory
from rl2_lightning.agents.settings import BeliefSettings
from rl2_lightning.agents.spec import AgentSpec
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.errors import UserError
from tests.builders import (
    MEMORIES,
    as_minibatch,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    make_memory,
    starts_of,
)

FORMS = ("moments", "samples")
NUM, LENGTH, SIZE = 5, 9, 3


def memory_of(form: str, name: str = "gru") -> BeliefMemory:
    return BeliefMemory(make_memory(name, 4), BeliefSettings(form, SIZE))


def encodings() -> Tensor:
    torch.manual_seed(1)
    return torch.randn(NUM, LENGTH, 4)


@pytest.mark.parametrize(
    ("form", "name", "is_noisy"), list(product(FORMS, MEMORIES, (False, True)))
)
def test_step_equals_window(form: str, name: str, is_noisy: bool) -> None:
    memory, encoding = memory_of(form, name), encodings()
    state = first = memory.initial_state(NUM)
    if is_noisy:
        state = first = memory.with_noise(first, torch.Generator().manual_seed(3))
    with torch.no_grad():
        found, last = memory.unroll(encoding, first)
        steps = []
        for t in range(LENGTH):
            features, state = memory.step(encoding[:, t], state)
            steps.append(features)
    assert found.shape == (NUM, LENGTH, memory.output_size)
    torch.testing.assert_close(found, torch.stack(steps, 1))
    for one, other in zip(last, state, strict=True):
        torch.testing.assert_close(one, other)


def test_features_are_mean_and_log_variance() -> None:
    memory, encoding = memory_of("moments"), encodings()
    features, _ = memory.unroll(encoding, memory.initial_state(NUM))
    belief = memory.beliefs(encoding)
    torch.testing.assert_close(features, torch.cat(belief, dim=-1))
    assert memory.output_size == memory.summary_size == 2 * SIZE
    assert belief.mean.std() > 1e-2
    assert belief.log_variance.std() > 1e-2


def test_a_variance_stays_within_bounds() -> None:
    memory = memory_of("moments")
    with torch.no_grad():
        memory.belief.weight.mul_(1e6)
    log_variance = memory.beliefs(encodings()).log_variance
    assert log_variance.abs().max() <= LARGEST_LOG_VARIANCE
    assert log_variance.exp().isfinite().all()


def test_samples_have_the_moments_of_the_belief() -> None:
    memory, encoding = memory_of("samples"), encodings()[:1].expand(20_000, -1, -1)
    state = memory.with_noise(memory.initial_state(len(encoding)), torch.Generator().manual_seed(3))
    with torch.no_grad():
        features, _ = memory.unroll(encoding, state)
        belief = memory.beliefs(encoding[:1])
    deviation = (0.5 * belief.log_variance).exp()
    noise = (features - belief.mean) / deviation
    # The table itself deviates by 1 / sqrt(its length).
    tolerance = 5 / NUM_DRAWS**0.5
    assert noise.mean(0).abs().max() < tolerance
    assert (noise.std(0) - 1).abs().max() < tolerance
    assert torch.corrcoef(noise[:, :2, 0].T)[0, 1].abs() < tolerance, "steps are independent"


def test_without_noise_a_sample_is_the_mean() -> None:
    memory, encoding = memory_of("samples"), encodings()
    features, state = memory.unroll(encoding, memory.initial_state(NUM))
    torch.testing.assert_close(features, memory.beliefs(encoding).mean)
    assert not state[-1].any()


def test_noise_goes_round_the_table() -> None:
    memory, encoding = memory_of("samples"), encodings()
    *inner, place = memory.initial_state(NUM)
    _, state = memory.unroll(encoding, (*inner, torch.full_like(place, NUM_DRAWS)))
    assert state[-1].flatten().tolist() == [LENGTH] * NUM


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("burn_in", [0, 3])
def test_a_window_is_learnt_from_as_it_was_played(form: str, burn_in: int) -> None:
    env, sizes = corridor_trials(7), {"window": 4, "burn_in": burn_in}
    agent = make_agent(env, belief=BeliefSettings(form, SIZE), policy_sees_observation=True)
    learner = make_learner(agent, env)
    prepared = learner.prepare(collect(env, learner, **sizes), starts_of(env, **sizes))
    steps = learner.lined_up_steps(as_minibatch(learner, env, prepared, **sizes))
    log_probs = agent.policy(steps[keys.FEATURES]).log_prob(steps[keys.ACTION])
    torch.testing.assert_close(log_probs, steps[keys.ACTION_LOG_PROB], rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(steps[keys.STATE_VALUE], steps[keys.OLD_STATE_VALUE])


@pytest.mark.parametrize("head", ["layers", "hypernetwork"])
@pytest.mark.parametrize("form", FORMS)
def test_it_is_built_from_its_spec(form: str, head: str) -> None:
    env = corridor_trials(4)
    agent = make_agent(
        env,
        belief=BeliefSettings(form, SIZE),
        policy_head=head,
        hidden_sizes=[6],
        policy_sees_observation=True,
    )
    spec = AgentSpec.from_plain(agent.spec.to_plain())
    assert spec == agent.spec
    other = Agent(spec)
    other.load_state_dict(agent.state_dict())
    first, second = torch.Generator().manual_seed(1), torch.Generator().manual_seed(1)
    inputs = env.begin().inputs
    one = agent.act(inputs, agent.initial_state(4, first), generator=first)
    two = other.act(inputs, other.initial_state(4, second), generator=second)
    assert torch.equal(one.features, two.features)
    assert torch.equal(one.log_probability, two.log_probability)


@pytest.mark.parametrize("sees_observation", [False, True])
def test_an_agent_tells_the_beliefs_it_acts_on(sees_observation: bool) -> None:
    env = corridor_trials(4)
    settings = BeliefSettings("moments", SIZE)
    agent = make_agent(env, belief=settings, policy_sees_observation=sees_observation)
    steps = collect(env, make_learner(agent, env))[keys.STEPS]
    features, _ = agent.unroll(inputs_of(steps), agent.initial_state(4))
    belief = agent.beliefs(inputs_of(steps))
    torch.testing.assert_close(features[..., -2 * SIZE :], torch.cat(belief, dim=-1))


def test_an_agent_without_a_belief_says_so() -> None:
    env = corridor_trials(2)
    with pytest.raises(UserError, match=r"^this agent has no belief: set agent.belief.form=moment"):
        make_agent(env).beliefs(env.begin().inputs)


def test_a_latent_is_the_mean_and_the_noise_in_standard_deviations() -> None:
    belief = Belief(torch.tensor([1.0]), torch.tensor([4.0]).log())
    assert belief.at(torch.tensor([1.5])).item() == pytest.approx(4.0)
