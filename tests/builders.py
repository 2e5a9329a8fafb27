"""Small agents, learners and runs for the tests."""

from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch.plugins.precision import Precision
from omegaconf import DictConfig
from tensordict import TensorDictBase
from torchrl.data import Categorical
from torchrl.envs import EnvBase
from torchrl.envs.utils import make_composite_from_td

from rl2_lightning import keys
from rl2_lightning.algorithms.ppo import PPO
from rl2_lightning.collection.collector import PrimedTrialEnv, make_collector
from rl2_lightning.collection.datamodule import TrialDataModule
from rl2_lightning.collection.plan import CollectionPlan
from rl2_lightning.collection.seeding import seed_play
from rl2_lightning.collection.stream import cut_windows
from rl2_lightning.config import CollectionConfig, PPOConfig, register_schemas
from rl2_lightning.envs.bernoulli_bandit import BernoulliBandit
from rl2_lightning.envs.point_robot import PointRobot
from rl2_lightning.envs.trial_env import TrialEnv
from rl2_lightning.networks.actor_critic import ActorCritic
from rl2_lightning.networks.encoder import INPUTS
from rl2_lightning.networks.memory.gru import GRU
from rl2_lightning.networks.memory.lstm import LSTM
from tests.families import Corridor

ROOT = Path(__file__).parents[1]
MEMORIES = {"gru": GRU, "lstm": LSTM}
SETTINGS = PPOConfig(
    learning_rate=1e-3,
    final_learning_rate=0.0,
    adam_epsilon=1e-8,
    gamma=0.99,
    gae_lambda=0.9,
    clip_epsilon=0.2,
    value_clip=None,
    value_coefficient=0.5,
    value_norm_decay=0.99,
    entropy_coefficient=0.01,
    final_entropy_coefficient=0.0,
    num_epochs=2,
    num_minibatches=1,
    target_kl=None,
)


def bandit_trials(num_trials: int, num_episodes: int = 6, **options: object) -> TrialEnv:
    return TrialEnv(
        BernoulliBandit(num_trials, num_arms=3), episodes_per_trial=num_episodes, **options
    )


def corridor_trials(num_trials: int, num_episodes: int = 3, **options: object) -> TrialEnv:
    return TrialEnv(Corridor(num_trials), episodes_per_trial=num_episodes, **options)


def point_trials(num_trials: int, num_episodes: int = 3, **options: object) -> TrialEnv:
    """Trials with continuous actions."""
    robots = PointRobot(num_trials, goals="square", reward="dense", horizon=3)
    return TrialEnv(robots, episodes_per_trial=num_episodes, **options)


def make_network(
    env: EnvBase,
    memory: str = "gru",
    *,
    separate: bool = False,
    num_layers: int = 1,
    inputs: tuple[str, ...] = INPUTS,
    hidden_sizes: tuple[int, ...] = (),
    critic_sees_task: bool = False,
    seed: int = 0,
) -> ActorCritic:
    torch.manual_seed(seed)
    shown = env.observation_spec_unbatched.clone()
    if critic_sees_task:
        shown[keys.TASK] = make_composite_from_td(env.task_env.sample_tasks(1)[0])
    network = ActorCritic(
        shown,
        env.action_spec_unbatched,
        partial(MEMORIES[memory], hidden_size=8, num_layers=num_layers),
        separate=separate,
        inputs=list(inputs),
        encoder_hidden_sizes=list(hidden_sizes),
        actor_hidden_sizes=list(hidden_sizes),
        critic_hidden_sizes=list(hidden_sizes),
    )
    # The initial policy is nearly uniform: sharpen it, so that a mistake shows; but continuous
    # actions not up to their bounds, where a rounding shows as well.
    discrete = isinstance(env.action_spec_unbatched, Categorical)
    with torch.no_grad():
        for parameter in network.actor.parameters():
            parameter.mul_(100 if discrete else 10)
    return network


def ten_iterations(env: TrialEnv) -> CollectionPlan:
    """The plan of a short run without a curriculum."""
    length = env.episodes_per_trial or env.max_steps
    collection = CollectionConfig(num_trials=1, total_env_steps=10 * length, window=None, burn_in=0)
    return CollectionPlan(collection, length, 1)


def make_ppo(
    network: ActorCritic, env: TrialEnv, plan: CollectionPlan | None = None, **changes: object
) -> PPO:
    settings = PPOConfig(**{**vars(SETTINGS), **changes})
    plan = plan or ten_iterations(env)
    return PPO(network, settings, num_episodes=env.max_episodes, plan=plan)


def collect(env: TrialEnv, network: ActorCritic, seed: int = 1, extra: int = 0) -> TensorDictBase:
    """One batch of trials `[B, T]` as the datamodule collects them."""
    primed = PrimedTrialEnv(env, network)
    collector = make_collector(primed, network, env.max_steps + extra)
    seed_play(primed, seed, seed + 1)
    trials = collector.rollout()
    return network.add_values(trials, env.tasks) if network.critic_sees_task else trials


def as_minibatch(
    trials: TensorDictBase,
    network: ActorCritic,
    window: int | None = None,
    burn_in: int = 0,
    tasks: TensorDictBase | None = None,
) -> TensorDictBase:
    """All windows of prepared trials in one minibatch."""
    length = window or trials.batch_size[1]
    return cut_windows(trials, length, burn_in, network.state_keys, tasks)


def seen_tasks(env: TrialEnv, network: ActorCritic) -> TensorDictBase | None:
    """The tasks of the trials that were collected last, if the critic sees them."""
    return env.tasks if network.critic_sees_task else None


def gradients(learner: PPO, minibatch: TensorDictBase) -> dict[str, torch.Tensor]:
    learner.zero_grad()
    learner.training_step(minibatch, 0).backward()
    return {name: p.grad.clone() for name, p in learner.network.named_parameters()}


def poisoned(trials: TensorDictBase) -> TensorDictBase:
    """The trials with NaN in every floating entry of every masked step."""
    mask = trials[keys.MASK]

    def poison(entry: torch.Tensor) -> torch.Tensor:
        if not entry.is_floating_point():
            return entry
        return entry.masked_fill(~mask.view(*mask.shape[:2], *[1] * (entry.ndim - 2)), torch.nan)

    return trials.apply(poison)


def compose_config(output_dir: Path, *overrides: str) -> DictConfig:
    """The config of `python train.py ...`, as composed."""
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"output_dir={output_dir}", *overrides])


def attach(data: TrialDataModule, learner: PPO, *, rank: int = 0, iteration: int = 0) -> None:
    """Stands in for a trainer of two ranks."""
    data.trainer = SimpleNamespace(
        world_size=2,
        global_rank=rank,
        current_epoch=iteration,
        lightning_module=learner,
        precision_plugin=Precision(),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
