"""Convert checkpoints of format 1 to the current format.

They use the former names of weights, classes and settings. The tables here map these to the current
names. Names in none of the tables are rejected; nothing that a file names is imported or called.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar, cast

import torch
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.memories.gru import GRU
from rl2_lightning.agents.memories.lstm import LSTM
from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.agents.settings import AgentSettings
from rl2_lightning.agents.spaces import Box
from rl2_lightning.agents.spec import AgentSpec
from rl2_lightning.checkpoint import Checkpoint, describe
from rl2_lightning.data.spaces import actions_of, observations_of
from rl2_lightning.errors import UserError
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.cart_pole import CartPole
from rl2_lightning.families.dependent_bandit import DependentBandit
from rl2_lightning.families.gaussian_bandit import GaussianBandit
from rl2_lightning.families.grid_navi import GridNavi
from rl2_lightning.families.informative_bandit import InformativeBandit
from rl2_lightning.families.pendulum import Pendulum
from rl2_lightning.families.point_robot import PointRobot
from rl2_lightning.families.restless_bandit import RestlessBandit
from rl2_lightning.families.tabular_mdp import TabularMDP
from rl2_lightning.families.task_env import TaskEnv
from rl2_lightning.families.two_step import TwoStep
from rl2_lightning.families.visual_maze import VisualMaze
from rl2_lightning.learners.critic import CriticSettings
from rl2_lightning.settings import stored_settings

TARGET = "_target_"
FAMILIES: Mapping[str, type[TaskEnv]] = {
    "rl2_lightning.envs.bernoulli_bandit.BernoulliBandit": BernoulliBandit,
    "rl2_lightning.envs.cart_pole.CartPole": CartPole,
    "rl2_lightning.envs.dependent_bandit.DependentBandit": DependentBandit,
    "rl2_lightning.envs.gaussian_bandit.GaussianBandit": GaussianBandit,
    "rl2_lightning.envs.grid_navi.GridNavi": GridNavi,
    "rl2_lightning.envs.informative_bandit.InformativeBandit": InformativeBandit,
    "rl2_lightning.envs.pendulum.Pendulum": Pendulum,
    "rl2_lightning.envs.point_robot.PointRobot": PointRobot,
    "rl2_lightning.envs.restless_bandit.RestlessBandit": RestlessBandit,
    "rl2_lightning.envs.tabular_mdp.TabularMDP": TabularMDP,
    "rl2_lightning.envs.two_step.TwoStep": TwoStep,
    "rl2_lightning.envs.visual_maze.VisualMaze": VisualMaze,
}
MEMORIES: Mapping[str, type[Memory]] = {
    "rl2_lightning.networks.memory.gru.GRU": GRU,
    "rl2_lightning.networks.memory.lstm.LSTM": LSTM,
}
LEARNERS: Mapping[str, str] = {
    "rl2_lightning.algorithms.ppo.PPO": "rl2_lightning.learners.ppo.PPO",
}
# Modules that have moved and kept their names.
MOVED = (
    ("rl2_lightning.envs.", "rl2_lightning.families."),
    ("rl2_lightning.networks.memory.", "rl2_lightning.agents.memories."),
)
GROUPS = ("env", "trial", "collection", "network", "algorithm")
# The state needed to resume a training, which only fits the program that has written it.
DROPPED = ("optimizer_states", "lr_schedulers", "loops")
LAYER = r"(\d+\.(?:weight|bias))"
WEIGHTS = tuple(
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"network\.encoders\.(?:shared|actor)\.layers\.{LAYER}", r"agent.encoder.layers.\1"),
        (rf"network\.encoders\.critic\.layers\.{LAYER}", r"critic.encoder.layers.\1"),
        (
            rf"network\.encoders\.(?:shared|actor)\.image_features\.(\w+)\._convolutions\.{LAYER}",
            r"agent.encoder.images.\1.convolutions.\2",
        ),
        (
            rf"network\.encoders\.critic\.image_features\.(\w+)\._convolutions\.{LAYER}",
            r"critic.encoder.images.\1.convolutions.\2",
        ),
        (r"network\.memories\.(?:shared|actor)\.((?:gru|lstm)\.\w+)", r"agent.memory.\1"),
        (r"network\.memories\.critic\.((?:gru|lstm)\.\w+)", r"critic.memory.\1"),
        # One level deeper for continuous actions.
        (rf"network\.actor\.module\.0\.module\.(?:0\.)?{LAYER}", r"agent.policy.layers.\1"),
        (r"network\.critic\.module\.(of_(?:features|elapsed|task)\.\w+)", r"critic.\1"),
        (r"value_norm\.(running_mean|running_mean_sq|debiasing_term)", r"value_scale.\1"),
        (r"env_steps_done", r"clock.env_steps_done"),
        (r"iterations_collected", r"clock.iterations_done"),
    )
)
# The layers after the first ReLU had a numbering of their own, which now includes the ReLU.
CRITIC_LAYER = re.compile(r"network\.critic\.module\.layers\.1\.(\d+)\.(weight|bias)")
Kind = TypeVar("Kind")


def upgrade(content: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Convert a checkpoint of format 1 to the current format.

    The optimiser's state is dropped: the result can be tested or start a new training, but a
    training cannot be resumed from it.

    Args:
        content: the content of the file.
        name: its name in error messages.

    Raises:
        UserError: something in it does not fit.
    """
    config = dict(Checkpoint(dict(content), name).config)
    env, trial, collection, network, algorithm = (
        _mapping(config.pop(group, None), group, name) for group in GROUPS
    )
    env, task_env = _upgrade_family(env, name)
    memory, memory_class = _upgrade_memory(network.pop("memory", None), name)
    agent, critic = _upgrade_layers(network, name)
    _, learner_class = _find(LEARNERS, algorithm, "algorithm", name)
    spec = AgentSpec(
        observations_of(task_env.observation_spec_unbatched[keys.OBSERVATION]),
        actions_of(task_env.action_spec_unbatched),
        agent,
        memory_class,
        {field: value for field, value in memory.items() if field != TARGET},
    )
    steps = _trial_steps(trial, task_env.max_episode_steps, name)
    groups = {
        "env": env,
        "trial": trial,
        "collection": {"curriculum": {}, "expected_rewards": False, **collection},
        "agent": asdict(agent),
        "memory": memory,
        "learner": {TARGET: learner_class, **algorithm, "critic": asdict(critic)},
        # Dropped, because they named classes and folders.
        "callbacks": {},
        "logger": {},
    }
    kept = {key: value for key, value in content.items() if key not in DROPPED}
    return {
        **kept,
        **describe(spec.to_plain()),
        "state_dict": _in_bounds(_upgrade_state(content["state_dict"], steps, name), spec),
        "hyper_parameters": {**config, **groups},
    }


def _upgrade_family(env: dict[str, Any], name: str) -> tuple[dict[str, Any], TaskEnv]:
    """The settings of the family, and an instance of it."""
    target, family = _find(FAMILIES, env, "env", name)
    settings = stored_settings(family.Settings, env, "env", name)
    try:
        task_env: TaskEnv = cast(Any, family)(num_tasks=1, device="cpu", **vars(settings))
    except RuntimeError as error:
        sizes = ", ".join(f"env.{field}={value}" for field, value in vars(settings).items())
        raise UserError(f"{name} has {sizes}, too large for this machine's memory") from error
    return {TARGET: _moved(target), **asdict(settings)}, task_env


def _upgrade_memory(values: Any, name: str) -> tuple[dict[str, Any], type[Memory]]:
    """The settings of the memory, and its class."""
    memory = _mapping(values, "network.memory", name)
    if memory.get("_partial_") is True:
        del memory["_partial_"]
    target, memory_class = _find(MEMORIES, memory, "network.memory", name)
    settings = stored_settings(memory_class.Settings, memory, "network.memory", name)
    return {TARGET: _moved(target), **asdict(settings)}, memory_class


def _upgrade_layers(network: dict[str, Any], name: str) -> tuple[AgentSettings, CriticSettings]:
    """The settings of the agent and its critic, except the memory."""
    renamed = {
        "separate": "separate",
        "critic_sees_task": "sees_task",
        "critic_hidden_sizes": "hidden_sizes",
    }
    critic = {new: network.pop(old) for old, new in renamed.items() if old in network}
    if "actor_hidden_sizes" in network:
        network["policy_hidden_sizes"] = network.pop("actor_hidden_sizes")
    return (
        stored_settings(AgentSettings, network, "network", name),
        stored_settings(CriticSettings, critic, "network", name),
    )


def _upgrade_state(state: Mapping[str, Tensor], trial_steps: int, name: str) -> dict[str, Tensor]:
    """Parameters and buffers; the value scale now stores the length of the trials it was fit on."""
    upgraded = {"value_scale.trial_steps": torch.tensor(trial_steps)}
    for key, tensor in state.items():
        today = _upgrade_weight(str(key), name)
        if today in upgraded:
            raise UserError(f"{name} has the weights {key!r} twice: use another checkpoint")
        upgraded[today] = tensor
    return upgraded


def _in_bounds(state: dict[str, Tensor], spec: AgentSpec) -> dict[str, Tensor]:
    """Rescale weights: the previous action is now a share of its bounds, not in its own unit."""
    encoder = spec.make_encoder()
    columns = encoder.columns.get("previous_action")
    if columns is None or not isinstance(spec.actions, Box):
        return state
    first = ("encoder.layers.0.weight", "memory.gru.weight_ih_l0", "memory.lstm.weight_ih_l0")
    for owner in ("agent", "critic"):
        key = next((f"{owner}.{name}" for name in first if f"{owner}.{name}" in state), None)
        if key is not None:
            state[key] = state[key].clone()
            state[key][:, columns] *= encoder.half_width
    return state


def _upgrade_weight(key: str, name: str) -> str:
    """The current name of a parameter or buffer."""
    for pattern, replacement in WEIGHTS:
        if pattern.fullmatch(key):
            return pattern.sub(replacement, key)
    if found := CRITIC_LAYER.fullmatch(key):
        return f"critic.layers.{int(found[1]) + 1}.{found[2]}"
    raise UserError(f"{name} has unknown weights {key!r}: use another checkpoint")


def _trial_steps(trial: Mapping[str, Any], episode_steps: int, name: str) -> int:
    """The maximum number of env steps in a trial."""
    lengths = [
        (trial.get("episodes_per_trial"), episode_steps),
        (trial.get("steps_per_trial"), 1),
    ]
    given = [length * steps for length, steps in lengths if type(length) is int]
    if len(given) != 1 or not 0 < given[0] < 2**31:
        raise UserError(
            f"{name} has trial.episodes_per_trial={lengths[0][0]} and trial.steps_per_trial="
            f"{lengths[1][0]}, which is not a valid trial length: use another checkpoint"
        )
    return given[0]


def _find(
    table: Mapping[str, Kind], values: dict[str, Any], group: str, name: str
) -> tuple[str, Kind]:
    """The class that a group names and its entry in a table; removes the name from the group."""
    target = values.pop(TARGET, None)
    if not isinstance(target, str) or target not in table:
        raise UserError(
            f"{name} has {group}.{TARGET}={target}, which format 1 did not have: use another "
            "checkpoint"
        )
    return target, table[target]


def _moved(target: str) -> str:
    """The current path of a class."""
    for before, after in MOVED:
        target = target.replace(before, after)
    return target


def _mapping(values: Any, group: str, name: str) -> dict[str, Any]:
    if not isinstance(values, Mapping):
        raise UserError(f"{name} has no settings of {group}: it is not from this program")
    return {str(field): value for field, value in values.items()}
