"""Agents of all kinds, and trials that users play."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from tensordict import TensorDictBase

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent, Step
from rl2_lightning.agents.settings import INPUTS, ActionQuerySettings, BeliefSettings
from rl2_lightning.data.actor import AgentActor
from rl2_lightning.families.play import play
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.inputs import Inputs
from tests.builders import MEMORIES, bandit_trials, corridor_trials, make_agent, point_trials
from tests.locks import lock_trials
from tests.views import view_trials

NUM = 4  # users
SEED = 5


class Kind(NamedTuple):
    """A kind of agent, and trials for it."""

    make_trials: Callable[..., TrialEnv]
    settings: dict[str, Any]


KINDS = {
    **{name: Kind(bandit_trials, {"memory": name, "num_layers": 2}) for name in MEMORIES},
    "all inputs": Kind(corridor_trials, {"inputs": Inputs._fields, "hidden_sizes": (6,)}),
    "few inputs": Kind(corridor_trials, {"inputs": INPUTS[:2]}),
    "continuous": Kind(point_trials, {"memory": "lstm"}),
    "images": Kind(view_trials, {"inputs": Inputs._fields}),
    "several actions": Kind(lock_trials, {}),
    "action queries": Kind(bandit_trials, {"policy_head": "action_queries", "hidden_sizes": (6,)}),
    "reads of pairs": Kind(
        corridor_trials,
        {
            "memory": "matrix",
            "policy_head": "action_queries",
            "hidden_sizes": (6,),
            "action_queries": ActionQuerySettings(of_observation=True),
        },
    ),
    "hypernetwork": Kind(corridor_trials, {"policy_head": "hypernetwork", "hidden_sizes": (6,)}),
    "belief": Kind(
        bandit_trials,
        {"belief": BeliefSettings("moments", size=3), "policy_sees_observation": True},
    ),
    "samples of a belief": Kind(bandit_trials, {"belief": BeliefSettings("samples", size=3)}),
    "normalised": Kind(
        point_trials, {"normalised": ["observation", "reward"], "discount_embedding": 2}
    ),
}


def agent_of(kind: str, **changes: Any) -> tuple[Agent, TrialEnv]:
    """An agent of a kind, with statistics of its inputs, and trials for it."""
    make_trials, settings = KINDS[kind]
    env = make_trials(NUM)
    agent = make_agent(env, **{**settings, **changes}).eval()
    for name, buffer in agent.named_buffers():
        if "normaliser" in name and "pending" not in name:
            buffer.add_(7 if buffer.dtype == torch.int64 else torch.rand(buffer.shape))
    return agent, env


def played(agent: Agent, env: TrialEnv, *, greedy: bool) -> TensorDictBase:
    """The steps of a trial for each user, `[NUM, T]`, as they are played for training."""
    env.set_seed(SEED)
    actor = AgentActor(agent, torch.Generator().manual_seed(SEED), greedy=greedy)
    return play(actor, env)[keys.STEPS]


def shown_at(steps: TensorDictBase, step: int) -> Any:
    """The observation at a step, as a user has it."""
    shown = steps[:, step][keys.OBSERVATION]
    return shown if isinstance(shown, torch.Tensor) else dict(shown.items())


def spied(agent: Agent) -> list[Step]:
    """The steps that the agent makes from now on."""
    made: list[Step] = []
    act = agent.act

    def spy(*args: Any, **options: Any) -> Step:
        made.append(act(*args, **options))
        return made[-1]

    agent.act = spy
    return made
