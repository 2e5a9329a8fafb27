"""The fast loop and TorchRL's rollout give the same trials."""

import pytest
import torch
from torchrl.envs import EnvBase, TransformedEnv

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent, AgentSpec
from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.lstm import LSTM
from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.data.actor import AgentActor
from rl2_lightning.data.policy import AgentPolicy
from rl2_lightning.data.spaces import actions_of, observations_of
from rl2_lightning.families.cart_pole import CartPole
from rl2_lightning.families.play import play
from rl2_lightning.families.point_robot import PointRobot
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.trial_env import TrialEnv


def make_agent(env: EnvBase, memory: type[GRU | LSTM]) -> Agent:
    torch.manual_seed(0)
    return Agent(
        AgentSpec(
            observations_of(env.observation_spec_unbatched[keys.OBSERVATION]),
            actions_of(env.action_spec_unbatched),
            AgentSettings(),
            memory,
            {"hidden_size": 8},
        )
    )


@pytest.mark.parametrize("memory", [GRU, LSTM])
@pytest.mark.parametrize("family", [CartPole, PointRobot])
@pytest.mark.parametrize("greedy", [False, True])
def test_play_equals_the_collector(
    monkeypatch: pytest.MonkeyPatch, family: type[TaskEnv], memory: type[GRU | LSTM], greedy: bool
) -> None:
    # Like in collection, a trial that has ended idles until all are reset.
    monkeypatch.setattr(TransformedEnv, "maybe_reset", lambda self, tensordict: tensordict)
    env = TrialEnv(family(6, horizon=12), episodes_per_trial=3)
    agent = make_agent(env, memory)
    env.set_seed(1)
    actor = AgentActor(agent, torch.Generator().manual_seed(2), greedy=greedy)
    steps = play(actor, env, state_steps=range(env.max_steps))
    env.set_seed(1)
    policy = AgentPolicy(agent, torch.Generator().manual_seed(2), greedy=greedy)
    primed = TransformedEnv(env, policy.make_tensordict_primer())
    rollout = primed.rollout(env.max_steps, policy, break_when_any_done=False)
    for name, entry in steps[keys.STEPS].items(True, True):
        assert torch.equal(entry, rollout[name]), name
    for name, entry in steps[keys.MEMORY_STATE].items():
        assert torch.equal(entry, rollout[keys.MEMORY_STATE, name])
