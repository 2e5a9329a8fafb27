"""The evidence lower bound equals a literal computation, prefix by prefix and step by step."""

import math

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torch.distributions import Bernoulli, MultivariateNormal, Normal, kl_divergence

from rl2_lightning import keys
from rl2_lightning.agents.belief import Belief
from rl2_lightning.agents.settings import BeliefSettings
from rl2_lightning.families.grid_navi import GridNavi
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.decoder import Decoder
from rl2_lightning.learners.elbo import Draw, draw_prefixes, elbo, kl_to_prior
from rl2_lightning.learners.varibad import VariBAD
from tests.builders import (
    bandit_trials,
    collect,
    corridor_trials,
    make_agent,
    make_learner,
    point_trials,
)
from tests.views import view_trials

SIZE, KL = 3, 0.3
CONSTANT = 0.5 * math.log(2 * math.pi)  # of a normal density with variance 1


def grid_trials(num_trials: int, num_episodes: int = 2) -> TrialEnv:
    return TrialEnv(GridNavi(num_trials, size=3, horizon=4), episodes_per_trial=num_episodes)


def learner_of(env: TrialEnv, decoder: dict, **changes) -> VariBAD:
    agent = make_agent(env, belief=BeliefSettings("moments", SIZE))
    learner = make_learner(agent, env, "varibad", decoder=decoder, **changes)
    learner.prepare(collect(env, learner), [0])
    return learner


def in_double(entries: TensorDictBase) -> TensorDictBase:
    return entries.apply(lambda one: one.double() if one.dtype == torch.float32 else one)


def some_belief(num: int, length: int) -> Belief:
    torch.manual_seed(2)
    return Belief(*torch.randn(2, num, length, SIZE, dtype=torch.float64))


def gaussian(mean: Tensor, log_variance: Tensor) -> MultivariateNormal:
    return MultivariateNormal(mean, torch.diag(log_variance.exp()))


def literal_kl(belief: Belief, row: int, step: int, to_previous: bool) -> Tensor:
    posterior = gaussian(belief.mean[row, step], belief.log_variance[row, step])
    zeros = torch.zeros(SIZE, dtype=torch.float64)
    prior = gaussian(zeros, zeros)
    if to_previous and step > 0:
        prior = gaussian(belief.mean[row, step - 1], belief.log_variance[row, step - 1])
    return kl_divergence(posterior, prior)


def literal_likelihoods(
    decoder: Decoder, trial: TensorDictBase, task: TensorDictBase, latent: Tensor, step: int
) -> dict[str, Tensor]:
    """The log-likelihoods of one step of a trial `[T]` given one latent `[D]`."""
    found, settings = {}, decoder.settings
    at = trial[step : step + 1].unsqueeze(0)
    one = latent.view(1, 1, -1)
    after = at[keys.NEXT_OBSERVATION]
    action, before, reward = at[keys.ACTION], at[keys.OBSERVATION], at[keys.REWARD].item()
    if settings.reward_coefficient:
        if decoder.places is not None:
            place = int(decoder.places.of_observations(after).item())
            predicted = decoder.reward_heads(latent)[place]
        else:
            encoder = decoder.reward_encoder
            parts = [
                encoder._part_of("observation", after, None),
                encoder._part_of("previous_action", action, None),
                encoder._part_of("previous_observation", before, None),
            ]
            encoded = torch.cat(parts, dim=-1).double()
            predicted = decoder.reward(one, encoded).squeeze()
        if settings.reward_likelihood == "normal":
            density = Normal(predicted, 1.0).log_prob(torch.tensor(reward))
            found["reward"] = density + CONSTANT
        else:
            positive = torch.tensor(float(reward > 0), dtype=torch.float64)
            found["reward"] = Bernoulli(logits=predicted).log_prob(positive)
    if settings.state_coefficient:
        encoder = decoder.state_encoder
        parts = [
            encoder._part_of("previous_action", action, None),
            encoder._part_of("previous_observation", before, None),
        ]
        encoded = torch.cat(parts, dim=-1).double()
        density = Normal(decoder.state(one, encoded).squeeze(), 1.0).log_prob(after.double())
        found["state"] = (density + CONSTANT).sum()
    return found


def literal_task(decoder: Decoder, task: TensorDictBase, latent: Tensor) -> Tensor:
    predicted = decoder.task(latent)
    if decoder.places is not None:
        place = (decoder.places.goals == task["goal"].float()).all(-1).nonzero().item()
        return predicted.softmax(-1)[int(place)].log()
    target = torch.cat([task[name].flatten().double() for name in sorted(task.keys())])
    return (Normal(predicted, 1.0).log_prob(target) + CONSTANT).sum()


ALL = {"reward_coefficient": 0.7, "state_coefficient": 0.4, "task_coefficient": 1.3}
CASES = {
    "rewards": (corridor_trials, {"reward_coefficient": 1.0}),
    "everything": (corridor_trials, ALL),
    "continuous actions": (point_trials, ALL),
    "episodes of a step": (bandit_trials, {**ALL, "reward_likelihood": "bernoulli"}),
    "places": (grid_trials, {**ALL, "reward_likelihood": "bernoulli"}),
    "rewards of places": (grid_trials, {"reward_coefficient": 1.0, "hidden_sizes": []}),
}


@pytest.mark.parametrize("within_episodes", [False, True])
@pytest.mark.parametrize("to_previous", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_it_is_the_literal_sum(case: str, to_previous: bool, within_episodes: bool) -> None:
    make_trials, decoded = CASES[case]
    learner = learner_of(make_trials(4), decoded)
    decoder, trials = learner.decoder.double(), in_double(learner.played)
    steps = trials[keys.WINDOW]
    num, length = steps.batch_size
    belief = Belief(*(moment.requires_grad_() for moment in some_belief(num, length)))
    draw = draw_prefixes(belief, None, torch.Generator().manual_seed(1))
    draw = Draw(draw.prefixes, draw.noise.double())
    found, _ = elbo(
        belief,
        decoder,
        trials,
        draw,
        kl_coefficient=KL,
        to_previous=to_previous,
        within_episodes=within_episodes,
    )
    weights = {"reward": decoder.settings.reward_coefficient}
    weights["state"] = decoder.settings.state_coefficient
    total = torch.zeros((), dtype=torch.float64)
    for row in range(num):
        mask, episode = steps[row][keys.MASK].flatten(), steps[row][keys.EPISODE].flatten()
        task = trials[keys.TASK][row] if decoder.settings.task_coefficient else None
        for prefix in mask.nonzero().flatten().tolist():
            deviation = (0.5 * belief.log_variance[row, prefix]).exp()
            latent = belief.mean[row, prefix] + deviation * draw.noise[row, prefix]
            for step in mask.nonzero().flatten().tolist():
                if within_episodes and episode[step] != episode[prefix]:
                    continue
                parts = literal_likelihoods(decoder, steps[row], task, latent, step)
                total += sum(weights[name] * part for name, part in parts.items())
            if task is not None:
                total += decoder.settings.task_coefficient * literal_task(decoder, task, latent)
            total -= KL * literal_kl(belief, row, prefix, to_previous)
    expected = total / (num * length)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=0)
    # A belief is also the prior of the next one, which passes a gradient on.
    for one, other in zip(
        torch.autograd.grad(found, belief), torch.autograd.grad(expected, belief), strict=True
    ):
        assert one.any()
        torch.testing.assert_close(one, other, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("to_previous", [False, True])
def test_kl_terms_are_those_of_torch(to_previous: bool) -> None:
    belief = some_belief(3, 5)
    found = kl_to_prior(belief, to_previous=to_previous)
    for row in range(3):
        for step in range(5):
            expected = literal_kl(belief, row, step, to_previous)
            assert found[row, step].item() == pytest.approx(expected.item(), rel=1e-10)


def test_some_prefixes_stand_for_all() -> None:
    learner = learner_of(corridor_trials(6), ALL)
    decoder, trials = learner.decoder.double(), in_double(learner.played)
    belief = some_belief(*trials[keys.WINDOW].batch_size)

    def bound(num_prefixes: int | None, seed: int) -> float:
        draw = draw_prefixes(belief, num_prefixes, torch.Generator().manual_seed(seed))
        draw = Draw(draw.prefixes, torch.zeros_like(draw.noise).double())
        options = {"kl_coefficient": KL, "to_previous": True, "within_episodes": False}
        return elbo(belief, decoder, trials, draw, **options)[0].item()

    whole = bound(None, 0)
    found = torch.tensor([bound(4, seed) for seed in range(300)])
    assert found.std() > 0
    assert abs(found.mean() - whole) < 4 * found.std() / 300**0.5


def test_prefixes_are_drawn_without_replacement() -> None:
    belief = some_belief(50, 8)
    prefixes, noise = draw_prefixes(belief, 5, torch.Generator().manual_seed(1))
    assert noise.shape == (50, 5, SIZE)
    assert all(len(set(row)) == 5 for row in prefixes.tolist())
    assert torch.bincount(prefixes.flatten(), minlength=8).min() > 15
    assert draw_prefixes(belief, 9, torch.Generator()).prefixes.tolist() == [list(range(8))] * 50


def test_the_next_observation_is_of_the_same_episode() -> None:
    env = grid_trials(5)
    env = TrialEnv(env.task_env, episodes_per_trial=2, shows_position=True)
    learner = learner_of(env, {})
    trials = collect(env, learner)
    learner.prepare(trials, [0])
    reached = env.task_env.places.of_observations(
        learner.played[keys.WINDOW, keys.NEXT_OBSERVATION]
    )
    positions = env.task_env.places.positions[reached]
    assert torch.equal(positions, trials[keys.STEPS, keys.REACHED])
    # At the end of an episode the next step shows the corner again.
    ends = trials[keys.STEPS, keys.EPISODE_DONE].squeeze(-1)
    assert positions[ends].any()


def test_the_next_observation_of_trials_that_end_early() -> None:
    env = corridor_trials(6)
    learner = learner_of(env, {})
    trials = collect(env, learner)
    learner.prepare(trials, [0])
    steps = learner.played[keys.WINDOW]
    assert (~steps[keys.MASK]).any()
    expected = steps[keys.OBSERVATION] + steps[keys.ACTION].unsqueeze(-1)
    mask = steps[keys.MASK]
    assert torch.equal(steps[keys.NEXT_OBSERVATION][mask], expected[mask])


@pytest.mark.parametrize("coefficient", ["reward_coefficient", "task_coefficient"])
def test_several_observations_and_images(coefficient: str) -> None:
    learner = learner_of(view_trials(4), {"reward_coefficient": 0.0, coefficient: 1.0})
    belief = learner.beliefs_of(learner.played)
    draw = draw_prefixes(belief, None, torch.Generator().manual_seed(1))
    learner.belief_loss(belief, learner.played, draw).backward()
    for parameter in learner.decoder.parameters():
        assert parameter.grad is not None
        assert parameter.grad.isfinite().all()
    of_images = list(learner.agent.encoder.images.parameters())
    assert of_images
    assert all(parameter.grad.any() for parameter in of_images)


def test_goal_probabilities_are_positive_rewards() -> None:
    learner = learner_of(grid_trials(4), {"reward_likelihood": "bernoulli", "hidden_sizes": []})
    (heads,) = learner.decoder.reward_heads
    with torch.no_grad():
        heads.weight.zero_()
        heads.bias.copy_(torch.arange(9.0))
    belief = Belief(torch.zeros(2, 4, SIZE), torch.zeros(2, 4, SIZE))
    found = learner.goal_probabilities(belief)
    positive = torch.arange(9.0).sigmoid()
    torch.testing.assert_close(found, (positive / positive.sum()).expand(2, 4, -1))


def test_goal_probabilities_average_over_the_belief() -> None:
    learner = learner_of(grid_trials(4), {"task_coefficient": 1.0, "hidden_sizes": []})
    (heads,) = learner.decoder.task
    with torch.no_grad():
        heads.bias.zero_()
        heads.weight.zero_()
        heads.weight[0, 0], heads.weight[1, 0] = 200.0, -200.0
    belief = Belief(torch.zeros(1, SIZE), torch.zeros(1, SIZE))
    found = learner.goal_probabilities(belief)[0]
    assert found[:2].tolist() == pytest.approx([0.5, 0.5], abs=0.1)
