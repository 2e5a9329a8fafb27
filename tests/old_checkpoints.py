"""Checkpoints of format 1."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

RL2_INPUTS = ["observation", "previous_action", "previous_reward", "previous_done"]


class Old(NamedTuple):
    """A training of format 1, and the same in today's names.

    Attributes:
        env: its config group `env`.
        trial: its config group `trial`.
        network: its config group `network`.
        layers: modules with its weights, each with the prefix of their names then and today.
        trial_steps: maximum number of env steps of a trial.
        overrides: overrides of today's command.
    """

    env: dict[str, Any]
    trial: dict[str, Any]
    network: dict[str, Any]
    layers: list[tuple[str, str, nn.Module]]
    trial_steps: int
    overrides: list[str]

    def states(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The same tensors by their names then and today."""
        then = {
            "env_steps_done": torch.tensor(640),
            "iterations_collected": torch.tensor(16),
            "value_norm.running_mean": torch.tensor([0.5]),
            "value_norm.running_mean_sq": torch.tensor([0.75]),
            "value_norm.debiasing_term": torch.tensor(0.25),
        }
        moved = {"env_steps_done": "env_steps_done", "iterations_collected": "iterations_done"}
        today = {
            f"clock.{moved[name]}" if name in moved else name.replace("norm", "scale"): tensor
            for name, tensor in then.items()
        }
        for before, after, module in self.layers:
            then |= {f"{before}.{name}": weight for name, weight in module.state_dict().items()}
            today |= {f"{after}.{name}": weight for name, weight in module.state_dict().items()}
        return then, today | {"value_scale.trial_steps": torch.tensor(self.trial_steps)}

    def content(self) -> dict[str, Any]:
        """The content of the file."""
        config = {
            "mode": "train",
            "seed": 3,
            "start_from": None,
            "output_dir": "somewhere",
            "env": self.env,
            "trial": self.trial,
            "collection": dict(COLLECTION),
            "network": self.network,
            "algorithm": dict(ALGORITHM),
            "callbacks": {"checkpoint": {"_target_": "lightning.pytorch.callbacks.Timer"}},
            "logger": {},
        }
        return {
            "epoch": 16,
            "global_step": 192,
            "pytorch-lightning_version": "2.6.6",
            "state_dict": self.states()[0],
            "loops": {"fit_loop": {}},
            "callbacks": {"Summary": {"training_seconds": 1.5}},
            "optimizer_states": [{"state": {}, "param_groups": []}],
            "lr_schedulers": [],
            "hyper_parameters": config,
        }


# From before `expected_rewards`.
COLLECTION = {
    "num_trials": 4,
    "total_env_steps": 10_000,
    "curriculum": {},
    "window": None,
    "burn_in": 0,
}
ALGORITHM = {
    "_target_": "rl2_lightning.algorithms.ppo.PPO",
    "learning_rate": 0.003,
    "final_learning_rate": 0.0,
    "adam_epsilon": 1e-08,
    "gamma": 0.99,
    "gae_lambda": 0.7,
    "clip_epsilon": 0.2,
    "value_clip": None,
    "value_coefficient": 0.25,
    "value_norm_decay": 0.99,
    "entropy_coefficient": 0.02,
    "final_entropy_coefficient": 0.0,
    "num_epochs": 3,
    "num_minibatches": 1,
    "target_kl": None,
}


def trial_of(episodes: int | None, steps: int | None = None) -> dict[str, Any]:
    return {"episodes_per_trial": episodes, "steps_per_trial": steps, "continues": False}


def network_of(memory: str, num_layers: int = 1, **fields: Any) -> dict[str, Any]:
    """The network group from before `critic_sees_task` and `max_timescale`."""
    settings = {"hidden_size": 8, "num_layers": num_layers}
    target = f"rl2_lightning.networks.memory.{memory.lower()}.{memory}"
    return {
        "memory": {"_target_": target, "_partial_": True, **settings},
        "separate": False,
        "inputs": list(RL2_INPUTS),
        "encoder_hidden_sizes": [],
        "actor_hidden_sizes": [],
        "critic_hidden_sizes": [],
        **fields,
    }


def head_of(size: int, task_size: int = 0) -> list[tuple[str, str, nn.Module]]:
    """The critic's first terms."""
    terms = {"of_features": nn.Linear(8, size), "of_elapsed": nn.Linear(1, size, bias=False)}
    if task_size:
        terms["of_task"] = nn.Linear(task_size, size, bias=False)
    return [
        (f"network.critic.module.{name}", f"critic.{name}", term) for name, term in terms.items()
    ]


def shared() -> Old:
    """One GRU for actor and critic."""
    return Old(
        {"_target_": "rl2_lightning.envs.bernoulli_bandit.BernoulliBandit", "num_arms": 3},
        trial_of(episodes=4),
        network_of("GRU"),
        [
            ("network.memories.shared.gru", "agent.memory.gru", nn.GRU(6, 8)),
            ("network.actor.module.0.module.0", "agent.policy.layers.0", nn.Linear(8, 3)),
            *head_of(1),
        ],
        4,
        ["env=bernoulli_bandit", "env.num_arms=3", "trial.episodes_per_trial=4"],
    )


def separate() -> Old:
    """An LSTM of two layers each, layers everywhere, and a critic that sees the task."""
    sizes = {"num_states": 3, "num_actions": 2, "horizon": 5}
    parts: list[tuple[str, str, nn.Module]] = []
    for owner, today in (("actor", "agent"), ("critic", "critic")):
        encoder = f"network.encoders.{owner}.layers"
        parts += [
            (f"{encoder}.0", f"{today}.encoder.layers.0", nn.Linear(10, 7)),
            (f"{encoder}.2", f"{today}.encoder.layers.2", nn.Linear(7, 4)),
            (f"network.memories.{owner}.lstm", f"{today}.memory.lstm", nn.LSTM(4, 8, 2)),
        ]
    return Old(
        {"_target_": "rl2_lightning.envs.tabular_mdp.TabularMDP", **sizes},
        trial_of(episodes=2),
        network_of(
            "LSTM",
            num_layers=2,
            separate=True,
            critic_sees_task=True,
            inputs=[*RL2_INPUTS, "previous_observation"],
            encoder_hidden_sizes=[7, 4],
            actor_hidden_sizes=[9],
            critic_hidden_sizes=[6, 5],
        ),
        [
            *parts,
            ("network.actor.module.0.module.0", "agent.policy.layers.0", nn.Linear(8, 9)),
            ("network.actor.module.0.module.2", "agent.policy.layers.2", nn.Linear(9, 2)),
            *head_of(6, task_size=3 * 2 + 3 * 2 * 3),
            ("network.critic.module.layers.1.0", "critic.layers.1", nn.Linear(6, 5)),
            ("network.critic.module.layers.1.2", "critic.layers.3", nn.Linear(5, 1)),
        ],
        10,
        [
            "env=tabular_mdp",
            *(f"env.{name}={size}" for name, size in sizes.items()),
            "trial.episodes_per_trial=2",
            "memory=lstm",
            "memory.num_layers=2",
            "learner.critic.separate=true",
            "learner.critic.sees_task=true",
            "learner.critic.hidden_sizes=[6,5]",
            f"agent.inputs=[{','.join([*RL2_INPUTS, 'previous_observation'])}]",
            "agent.encoder_hidden_sizes=[7,4]",
            "agent.policy_hidden_sizes=[9]",
        ],
    )


def continuous() -> Old:
    """Continuous actions, and trials with a length in env steps."""
    fields = {"goals": "square", "reward": "dense", "goal_radius": 0.2, "horizon": 5}
    policy = "network.actor.module.0.module.0"
    return Old(
        {"_target_": "rl2_lightning.envs.point_robot.PointRobot", **fields},
        trial_of(episodes=None, steps=12),
        network_of("GRU", actor_hidden_sizes=[6]),
        [
            ("network.memories.shared.gru", "agent.memory.gru", nn.GRU(6, 8)),
            (f"{policy}.0", "agent.policy.layers.0", nn.Linear(8, 6)),
            (f"{policy}.2", "agent.policy.layers.2", nn.Linear(6, 4)),
            *head_of(1),
        ],
        12,
        [
            "env=point_robot",
            *(f"env.{name}={value}" for name, value in fields.items()),
            "trial.episodes_per_trial=null",
            "trial.steps_per_trial=12",
            "agent.policy_hidden_sizes=[6]",
        ],
    )


def images() -> Old:
    """Convolutions of the current and the previous observation."""
    fields = {"size": 2, "horizon": 6, "num_training_mazes": None}
    encoder, today = "network.encoders.shared", "agent.encoder"
    parts: list[tuple[str, str, nn.Module]] = []
    for name in ("observation", "previous_observation"):
        before, after = f"{encoder}.image_features.{name}._convolutions", f"{today}.images.{name}"
        parts += [
            (f"{before}.0", f"{after}.convolutions.0", nn.Conv2d(3, 16, 5)),
            (f"{before}.2", f"{after}.convolutions.2", nn.Conv2d(16, 16, 5)),
        ]
    inputs = [*RL2_INPUTS, "previous_observation"]
    return Old(
        {"_target_": "rl2_lightning.envs.visual_maze.VisualMaze", **fields},
        trial_of(episodes=2),
        network_of("GRU", inputs=inputs, encoder_hidden_sizes=[4]),
        [
            *parts,
            (f"{encoder}.layers.0", f"{today}.layers.0", nn.Linear(2 * 560 + 5, 4)),
            ("network.memories.shared.gru", "agent.memory.gru", nn.GRU(4, 8)),
            ("network.actor.module.0.module.0", "agent.policy.layers.0", nn.Linear(8, 3)),
            *head_of(1),
        ],
        12,
        [
            "env=visual_maze",
            "env.size=2",
            "env.horizon=6",
            "env.num_training_mazes=null",
            "trial.episodes_per_trial=2",
            f"agent.inputs=[{','.join(inputs)}]",
            "agent.encoder_hidden_sizes=[4]",
        ],
    )


KINDS = {"shared": shared, "separate": separate, "continuous": continuous, "images": images}
