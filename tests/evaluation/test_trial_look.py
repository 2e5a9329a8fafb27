"""What pictures of an agent show: actions, memory, and what the policy reacts to."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.distributions import Categorical, kl_divergence

from rl2_lightning import keys
from rl2_lightning.data.windows import inputs_of
from rl2_lightning.evaluation import look_plots as plots
from rl2_lightning.evaluation import trial_look as looks
from rl2_lightning.evaluation.adaptation_curve import Curve
from rl2_lightning.evaluation.images import render
from rl2_lightning.evaluation.trial_look import Played
from rl2_lightning.families.bandits.env import ARM_PROBABILITIES
from tests.builders import bandit_trials, corridor_trials, make_agent, point_trials

NUM = 30


def look_at(make_trials=bandit_trials, **settings) -> Played:
    env = make_trials(NUM)
    agent = make_agent(env, **settings)
    env.task_env.set_seed(1)
    world = SimpleNamespace(trials=lambda num_trials, device: env)
    return looks.play_to_look(agent, world, env.task_env.sample_tasks(NUM), seed=2)


def test_actions_are_ranked_by_what_they_pay() -> None:
    played = look_at()
    probabilities = played.tasks[ARM_PROBABILITIES]
    for row, ranks in zip(probabilities, played.ranks, strict=True):
        assert row[ranks == 0] == row.max()
        assert row[ranks == 2] == row.min()
    shares = looks.action_shares(played)
    assert shares.shape == (3, 6)
    torch.testing.assert_close(shares.sum(0), torch.ones(6))
    best = probabilities.argmax(1, keepdim=True)
    expected = (played.steps[keys.ACTION] == best).float().mean(0)
    torch.testing.assert_close(shares[0], expected)
    numbers, meaning = looks.task_numbers(played)
    assert meaning == "best action"
    assert torch.equal(numbers, best.squeeze(1) + 1.0)


def test_shares_are_of_the_trials_that_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(looks, "SMALLEST_SHARE", 0.5)
    played = look_at(corridor_trials)
    assert played.ranks is None, "what an action pays depends on the state"
    assert not played.mask.all()
    shares, action = looks.action_shares(played), played.steps[keys.ACTION]
    num_played = played.mask.sum(0)
    assert 0 < num_played[-1] < 0.5 * NUM
    for t, num in enumerate(num_played.tolist()):
        playing = action[played.mask[:, t], t]
        expected = playing.bincount(minlength=len(shares)) / num
        is_told = num >= 0.5 * NUM
        torch.testing.assert_close(
            shares[:, t],
            expected if is_told else torch.full_like(expected, torch.nan),
            equal_nan=True,
        )


def test_paths_are_the_principal_components() -> None:
    played = look_at(corridor_trials)
    paths, shares = looks.memory_paths(played)
    assert torch.equal(paths.isnan().all(-1), ~played.mask)
    counted = played.features[played.mask].double().numpy()
    variances = np.linalg.eigvalsh(np.cov(counted.T))[::-1]
    assert shares.numpy() == pytest.approx(variances[:2] / variances.sum())
    found = paths[played.mask].numpy()
    assert found.var(axis=0, ddof=1) == pytest.approx(variances[:2])
    assert np.cov(found.T)[0, 1] == pytest.approx(0, abs=1e-8)


def test_a_single_parameter_is_the_number_of_a_task() -> None:
    played = look_at(corridor_trials)
    numbers, meaning = looks.task_numbers(played)
    ((name, parameter),) = played.tasks.items()
    assert meaning == name.replace("_", " ")
    torch.testing.assert_close(numbers, parameter.squeeze(1).double())
    numbers, meaning = looks.task_numbers(look_at(point_trials))
    assert meaning.startswith("first principal component")
    assert len(numbers.unique()) == NUM


def test_a_one_hot_parameter_is_a_kind() -> None:
    played = look_at(corridor_trials)
    cues = torch.arange(NUM) % 4
    one_hot = torch.nn.functional.one_hot(cues, 4).float()
    numbers, meaning = looks.task_numbers(replace(played, tasks={"cue": one_hot}))
    assert meaning == "cue"
    assert torch.equal(numbers, cues + 1.0)
    two = {"cue": one_hot, "place": torch.rand(NUM, 1)}
    _, meaning = looks.task_numbers(replace(played, tasks=two))
    assert meaning.startswith("first principal component")


def test_policies_react_to_what_they_see() -> None:
    played = look_at()
    found = looks.reactions(played)
    assert list(found) == ["observation", "previous_action", "previous_reward", "previous_done"]
    assert found["observation"] == pytest.approx(0, abs=1e-6), "it is the same in all trials"
    assert found["previous_done"] == pytest.approx(0, abs=1e-6)
    for name in ("previous_action", "previous_reward"):
        assert found[name][0] == pytest.approx(0, abs=1e-6), "nothing has happened yet"
        assert (found[name][1:] > 1e-3).all()
    assert set(looks.reactions(look_at(inputs=("previous_action",)))) == {"previous_action"}


def test_few_trials_say_nothing() -> None:
    played = look_at(corridor_trials)
    mask = played.mask
    share = (mask & mask.roll(1, 0)).float().mean(0)
    assert 0 < share[-1] < 1
    found = looks.reactions(played)["previous_reward"]
    assert (np.isnan(found) == (share < looks.SMALLEST_SHARE).numpy()).all()


def test_reactions_are_divergences_of_the_changed_policy() -> None:
    played = look_at(memory="matrix")
    agent, inputs = played.agent, inputs_of(played.steps)
    changed = inputs._replace(previous_reward=inputs.previous_reward.roll(1, 0))
    before, after = (
        agent.policy(agent.unroll(one, agent.initial_state(NUM))[0]) for one in (inputs, changed)
    )
    expected = kl_divergence(Categorical(before.probs), Categorical(after.probs)).mean(0)
    found = looks.reactions(played)["previous_reward"]
    assert found == pytest.approx(expected.detach().numpy(), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("make_trials", [bandit_trials, corridor_trials, point_trials])
def test_figures_name_their_axes(make_trials) -> None:
    figures = looks.figures_of(look_at(make_trials))
    expected = {"actions", "memory", "reactions"}
    assert set(figures) == expected - ({"actions"} if make_trials is point_trials else set())
    for figure in figures.values():
        axes = figure.axes[0]
        assert axes.get_xlabel()
        assert axes.get_ylabel()
        assert render(figure).std() > 1


def test_fewer_of_long_paths_are_drawn() -> None:
    numbers, shares = torch.arange(80.0).sin(), torch.tensor([0.5, 0.2])
    for num_steps, expected in ((10, plots.MOST_PATHS), (100, 12), (9999, 1)):
        paths = torch.rand(80, num_steps, 2)
        axes = plots.memory_figure(paths, shares, numbers, "number", "title").axes[0]
        assert len(axes.lines) == expected
        assert len(axes.collections[0].get_offsets()) == 80, "the ends of all"


@pytest.mark.parametrize(("greedy", "sampled", "expected"), [(3, 1, True), (2, 1.9, False)])
def test_an_agent_is_shown_as_it_acts_best(greedy: float, sampled: float, expected: bool) -> None:
    curves = {
        name: Curve(torch.tensor([one]), torch.zeros(1), one, 0.5, 10)
        for name, one in (("greedy", greedy), ("sampled", sampled))
    }
    assert looks.plays_greedily(curves) is expected


def test_greedy_play_is_called_so() -> None:
    env = bandit_trials(NUM)
    world = SimpleNamespace(trials=lambda num_trials, device: env)
    tasks = env.task_env.sample_tasks(NUM)
    played = looks.play_to_look(make_agent(env), world, tasks, seed=2, greedy=True)
    policy = played.agent.policy(played.features)
    assert torch.equal(played.steps[keys.ACTION], policy.logits.argmax(-1))
    for figure in looks.figures_of(played).values():
        assert figure.get_suptitle().endswith("30 held-out tasks played greedily")


def test_regret_is_what_is_missing_so_far() -> None:
    curves = {
        name: Curve(torch.tensor(mean), torch.zeros(3), sum(mean), 0.0, 10)
        for name, mean in (("agent", [1.0, 2.0, 4.0]), ("best", [3.0, 4.0, 4.5]))
    }
    figure = plots.regret_figure({"agent": curves["agent"]}, {"best": curves["best"]}, "best", "")
    line, zero = figure.axes[0].lines
    assert line.get_ydata() == pytest.approx([2.0, 4.0, 4.5])
    assert line.get_label() == "agent: 4.5 in all"
    assert set(zero.get_ydata()) == {0}
