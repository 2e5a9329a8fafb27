"""The collector with TorchRL's interface."""

from collections import OrderedDict
from itertools import islice

import pytest
import torch
from tensordict import TensorDictBase
from torch import Tensor
from torchrl.collectors import BaseCollector

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.data.actor import AgentActor, require_finite
from rl2_lightning.data.collector import TrialCollector
from rl2_lightning.errors import NonFiniteLossError
from rl2_lightning.families.trial_env import TrialEnv
from tests.builders import bandit_trials, corridor_trials, make_agent, point_trials
from tests.corridor import Corridor
from tests.locks import lock_trials
from tests.views import view_trials

WORLDS = [bandit_trials, corridor_trials, point_trials, view_trials, lock_trials]


def collector_of(env: TrialEnv, agent: Agent | None = None, **options) -> TrialCollector:
    collector = TrialCollector(env, agent or make_agent(env), **options)
    collector.set_seed(3)
    return collector


def same(one: TensorDictBase, other: TensorDictBase) -> bool:
    return bool((one[keys.STEPS] == other[keys.STEPS]).all())


@pytest.mark.parametrize("make_trials", WORLDS)
def test_it_is_a_collector_of_torchrl(make_trials) -> None:
    env = make_trials(4)
    collector = collector_of(env)
    assert isinstance(collector, BaseCollector)
    batches = list(islice(collector, 3))
    assert [batch.batch_size for batch in batches] == [(4,)] * 3
    assert not same(batches[0], batches[1])
    for batch in batches:
        steps = batch[keys.STEPS]
        assert steps.batch_size == (4, env.max_steps)
        assert steps[keys.IS_INIT][:, 0].all()
        assert not steps[keys.IS_INIT][:, 1:].any()
    alone = collector_of(make_trials(4)).rollout()
    assert same(batches[0], alone), "a batch is a rollout"


@pytest.mark.parametrize("make_trials", WORLDS)
def test_its_state_goes_on_where_it_was(make_trials) -> None:
    collector, other = collector_of(make_trials(4)), collector_of(make_trials(4))
    first = collector.rollout()
    state = collector.state_dict()
    assert isinstance(state, OrderedDict)
    expected = [collector.rollout() for _ in range(2)]
    other.load_state_dict(state)
    found = [other.rollout() for _ in range(2)]
    assert all(map(same, found, expected))
    assert not same(first, expected[0])
    collector.load_state_dict(state)
    assert same(collector.rollout(), expected[0])


def test_a_seed_fixes_tasks_and_actions() -> None:
    first, again = (collector_of(point_trials(4)).rollout() for _ in range(2))
    assert same(first, again)
    assert (first[keys.TASK] == again[keys.TASK]).all()
    collector = collector_of(point_trials(4))
    following = collector.set_seed(3)
    assert following != 3
    assert same(collector.rollout(), first)
    assert not same(collector.rollout(), first)


def test_actions_and_environment_have_seeds_of_their_own() -> None:
    def rollout(environment_seed: int, action_seed: int) -> TensorDictBase:
        env = point_trials(50)
        collector = TrialCollector(env, make_agent(env))
        collector.seed(environment_seed, action_seed)
        return collector.rollout()

    first, other_actions, other_tasks = rollout(1, 2), rollout(1, 3), rollout(4, 2)
    assert (first[keys.TASK] == other_actions[keys.TASK]).all()
    actions = [trials[keys.STEPS, keys.ACTION][:, 0] for trials in (first, other_actions)]
    assert not torch.equal(*actions)
    assert torch.equal(actions[0], other_tasks[keys.STEPS, keys.ACTION][:, 0])
    assert not (first[keys.TASK] == other_tasks[keys.TASK]).all()


def test_it_acts_with_the_agent_as_it_is() -> None:
    env = bandit_trials(5)
    agent = make_agent(env)
    collector = TrialCollector(env, agent)
    collector.seed(1, 2)
    before = collector.rollout()
    with torch.no_grad():
        agent.policy.layers[-1].bias.copy_(torch.tensor([99.0, 0.0, 0.0]))
    collector.seed(1, 2)
    after = collector.rollout()
    assert before[keys.STEPS, keys.ACTION].any()
    assert not after[keys.STEPS, keys.ACTION].any()


def test_what_is_kept_beside_the_steps() -> None:
    env = bandit_trials(5)
    plain = collector_of(env).rollout()
    assert keys.FEATURES not in plain[keys.STEPS].keys()  # noqa: SIM118
    assert plain[keys.MEMORY_STATE].batch_size == (5, 1)
    env = bandit_trials(5)
    agent = make_agent(env)
    more = collector_of(
        env,
        agent,
        state_steps=[0, 2, 2],
        num_extra_steps=1,
        make_actor=lambda generator: AgentActor(agent, generator, keeps_features=True),
    ).rollout()
    assert more[keys.MEMORY_STATE].batch_size == (5, 3)
    assert more[keys.STEPS].batch_size == (5, env.max_steps + 1)
    assert not more[keys.STEPS, keys.MASK][:, -1].any()
    # The features of a one-layer GRU are its next state.
    features, state = more[keys.STEPS, keys.FEATURES], more[keys.MEMORY_STATE]["0"]
    torch.testing.assert_close(state[:, 1], features[:, 1])
    assert torch.equal(state[:, 1], state[:, 2])
    assert torch.equal(plain[keys.STEPS, keys.ACTION], more[keys.STEPS, keys.ACTION][:, :-1])


def test_shutdown_closes_the_environment() -> None:
    env, other = bandit_trials(4), bandit_trials(4)
    collector = collector_of(env)
    collector.rollout()
    assert not env.is_closed
    collector.shutdown()
    assert env.is_closed
    assert env.task_env.is_closed
    collector.shutdown()  # a second call does no harm
    collector_of(other).shutdown(close_env=False)
    assert not other.is_closed


def test_a_policy_that_is_not_finite_is_told() -> None:
    env = bandit_trials(4)
    collector = collector_of(env)
    with torch.no_grad():
        collector._actor._agent.policy.layers[-1].bias.fill_(torch.nan)
    with pytest.raises(NonFiniteLossError, match="the agent's weights are not finite: lower"):
        collector.rollout()


@pytest.mark.parametrize(
    ("reward", "log_probability", "words"),
    [
        (torch.nan, -1.0, "non-finite reward"),
        (torch.inf, -torch.inf, "non-finite reward"),
        (-torch.inf, torch.nan, "non-finite reward"),
        (1.0, -torch.inf, "non-finite or too large observation"),
        (-3e38, -3e38, None),  # only their sum overflows
    ],
)
def test_rewards_and_probabilities_are_checked_together(
    reward: float, log_probability: float, words: str | None
) -> None:
    env = corridor_trials(4)
    collector = collector_of(env)
    steps = collector.rollout()[keys.STEPS]
    playing, idle = (
        tuple(mask.squeeze(-1).nonzero()[0]) for mask in (steps[keys.MASK], ~steps[keys.MASK])
    )
    steps[keys.REWARD][idle] = steps[keys.ACTION_LOG_PROB][idle] = torch.nan
    require_finite(steps, collector.policy, env)
    steps[keys.REWARD][playing] = reward
    steps[keys.ACTION_LOG_PROB][playing] = log_probability
    if words is None:
        require_finite(steps, collector.policy, env)
        return
    with pytest.raises(NonFiniteLossError, match=words):
        require_finite(steps, collector.policy, env)


class MeaninglessWhenIdle(Corridor):
    """Returns garbage for rows that are not playing."""

    def advance(self, action: Tensor, playing: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        place, reward, arrived = super().advance(action, playing)
        self.idles = ~playing
        return (
            place.masked_fill(~playing, torch.nan),
            reward.masked_fill(~playing, torch.nan),
            arrived,
        )

    def begin_episodes(self, rows: Tensor) -> Tensor:
        place = super().begin_episodes(rows)
        return place.masked_fill(getattr(self, "idles", torch.zeros_like(rows)), torch.nan)


def test_what_is_answered_for_idle_rows_has_no_meaning() -> None:
    env = TrialEnv(MeaninglessWhenIdle(20), episodes_per_trial=3)
    steps = collector_of(env).rollout()[keys.STEPS]
    idle = ~steps[keys.MASK]
    assert steps[keys.OBSERVATION][idle].isnan().any()
    assert steps[keys.REWARD].isfinite().all()


def test_it_answers_the_calls_of_torchrls_loops() -> None:
    env = bandit_trials(4)
    agent = make_agent(env)
    collector = TrialCollector(env, agent)
    assert collector.policy is agent
    assert collector.frames_per_batch == 4 * env.max_steps
    collector.set_seed(3)
    before = collector.rollout()
    collector.update_policy_weights_()
    collector.reset()
    collector.set_seed(3)
    assert same(before, collector.rollout())
