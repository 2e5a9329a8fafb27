"""An agent plays Gymnasium environments outside of a training as in one."""

import gymnasium
import numpy as np
import pytest
import torch

from rl2_lightning.errors import UserError
from rl2_lightning.families.gymnasium.bridge import Bridge
from rl2_lightning.families.trial_env import TrialEnv
from tests.builders import make_agent
from tests.families.gymnasium.envs import Counting, Faulty, Pushing, Several
from tests.families.gymnasium.played import HORIZON, NUM_EPISODES, NUM_TASKS, tasks_of

TASKS = [1.0, 2.0, 3.0, 4.0, 5.0]


def by_user(agent, make_env) -> tuple[list[list[float]], list[list]]:
    """The rewards and actions of trials in environments that are stepped one by one."""
    envs = [make_env(task=task) for task in TASKS]
    bridge, session = Bridge(envs[0]), agent.session(len(envs), greedy=True)
    shown = [env.reset(seed=0)[0] for env in envs]
    rewards, taken = [], []
    for step in range(NUM_EPISODES * HORIZON):
        action = session.act(bridge.observations(shown))
        results = [env.step(one) for env, one in zip(envs, bridge.actions(action), strict=True)]
        done = [one[2] or one[3] or (step + 1) % HORIZON == 0 for one in results]
        rewards.append([float(np.float32(one[1])) for one in results])
        taken.append(action.tolist())
        session.observe(rewards[-1], done)
        shown = [
            env.reset()[0] if over else one[0]
            for env, over, one in zip(envs, done, results, strict=True)
        ]
    return rewards, taken


@pytest.mark.parametrize("make_env", [Counting, Pushing])
def test_users_play_as_in_trials(make_env) -> None:
    settings = {"task_by": "method", "held_out_tasks": TASKS, "training_tasks": TASKS}
    family = tasks_of(make_env.__name__, **settings)
    env = TrialEnv(family, episodes_per_trial=NUM_EPISODES)
    agent = make_agent(env, gain=3)
    rewards, taken = by_user(agent, make_env)
    tasks = family.sample_tasks(NUM_TASKS)
    tasks["task"] = torch.tensor(TASKS).unsqueeze(1)
    step, state = env.begin(tasks), agent.initial_state(NUM_TASKS)
    for expected, actions in zip(rewards, taken, strict=True):
        played = agent.act(step.inputs, state, greedy=True)
        torch.testing.assert_close(played.action, torch.tensor(actions))
        result = env.advance(played.action)
        step, state = result.following, played.state
        torch.testing.assert_close(result.reward.squeeze(1), torch.tensor(expected))
    env.close()


def test_several_observations_and_actions() -> None:
    env = TrialEnv(tasks_of("Several"), episodes_per_trial=NUM_EPISODES)
    agent = make_agent(env)
    shown = env.begin().inputs.observation
    own, bridge = Several(), Bridge(Several())
    observation, _ = own.reset()
    found = bridge.observations([observation] * NUM_TASKS)
    assert found.keys() == dict(shown.items()).keys()
    for name, one in found.items():
        assert one.tolist() == shown[name].tolist(), name
    actions = bridge.actions(agent.session(NUM_TASKS).act(found))
    assert len(actions) == NUM_TASKS
    own.step(actions[0])  # which checks its form
    env.close()


def test_what_goes_wrong() -> None:
    bridge = Bridge(Faulty())
    for wrong, reason in (
        (np.array([np.nan, 0], np.float32), "nan is not finite"),
        (np.zeros(3, np.float32), r"it is not of shape \[2\]"),
    ):
        told = rf"^the environment returned observation 1, which cannot be shown: {reason}"
        with pytest.raises(UserError, match=told):
            bridge.observations([np.zeros(2, np.float32), wrong])
    env = gymnasium.make("CartPole-v1")
    env.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    with pytest.raises(UserError, match=r"^CartPole-v1 has actions without finite bounds"):
        Bridge(env)
    assert Bridge(env, action_bound=2.0).actions(torch.ones(1, 1)) == [1.0]
