"""Small agents, learners and runs for the tests."""

from collections.abc import Callable, Iterable
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from hydra.utils import get_class
from lightning.pytorch.plugins.precision import Precision
from omegaconf import DictConfig, OmegaConf
from tensordict import TensorDictBase
from torch import Tensor

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent, AgentSpec
from rl2_lightning.agents.belief import Belief
from rl2_lightning.agents.memories.memory import Memory
from rl2_lightning.agents.settings import INPUTS, AgentSettings, BeliefSettings
from rl2_lightning.agents.spaces import Discrete
from rl2_lightning.config import CollectionConfig, register_schemas
from rl2_lightning.data.collector import TrialCollector
from rl2_lightning.data.datamodule import TrialDataModule
from rl2_lightning.data.plan import CollectionPlan
from rl2_lightning.data.spaces import actions_of, observations_of
from rl2_lightning.data.windows import cut_windows, state_steps
from rl2_lightning.families.bernoulli_bandit import BernoulliBandit
from rl2_lightning.families.point_robot import PointRobot
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.learners.actor_critic import ActorCriticLearner
from rl2_lightning.learners.elbo import Draw
from rl2_lightning.learners.learner import Learner, RunShape
from rl2_lightning.learners.trpo import TRPO
from rl2_lightning.learners.varibad import VariBAD
from rl2_lightning.settings import make_settings
from tests.corridor import Corridor

ROOT = Path(__file__).parents[1]


def classes_of(group: str) -> dict[str, type[Any]]:
    """The classes that the files of a group of the config name."""
    files = sorted((ROOT / "configs" / group).glob("*.yaml"))
    return {file.stem: get_class(OmegaConf.load(file)["_target_"]) for file in files}


MEMORIES: dict[str, type[Memory]] = classes_of("memory")
LEARNERS: dict[str, type[Learner]] = classes_of("learner")
# The learners that minimise a loss on this iteration's windows.
ACTOR_CRITICS = [name for name, one in LEARNERS.items() if issubclass(one, ActorCriticLearner)]
# With the critics that they may have: with a memory of its own, or on the agent's features.
CRITICS = [
    (name, separate)
    for name in ACTOR_CRITICS
    for separate in (False, True)
    if separate or not issubclass(LEARNERS[name], TRPO)
]

SETTINGS = {
    "learning_rate": 1e-3,
    "gamma": 0.99,
    "gae_lambda": 0.9,
    "clip_epsilon": 0.2,
    "num_epochs": 2,
    "num_minibatches": 1,
}


# Settings of memories in the tests, each used if a memory has it: trials are short.
SMALL = {
    "hidden_size": 8,
    "num_heads": 2,
    "num_filters": 4,
    "key_size": 4,
    "value_size": 4,
    "context": 16,
    "max_steps": 16,
    "max_transitions": 16,
}


def known(given: dict[str, Any], owner: type[Any]) -> dict[str, Any]:
    """The values for which the settings of a class have a field."""
    names = {field.name for field in fields(owner.Settings)}
    return {name: value for name, value in given.items() if name in names}


def bandit_trials(num_trials: int, num_episodes: int = 6, **options: Any) -> TrialEnv:
    """Trials in which every step ends an episode."""
    bandits = BernoulliBandit(num_trials, num_arms=3)
    return TrialEnv(bandits, episodes_per_trial=num_episodes, **options)


def corridor_trials(num_trials: int, num_episodes: int = 3, **options: Any) -> TrialEnv:
    """Trials of different lengths."""
    return TrialEnv(Corridor(num_trials), episodes_per_trial=num_episodes, **options)


def point_trials(num_trials: int, num_episodes: int = 3, **options: Any) -> TrialEnv:
    """Trials with continuous actions."""
    robots = PointRobot(num_trials, goals="square", reward="dense", horizon=3)
    return TrialEnv(robots, episodes_per_trial=num_episodes, **options)


def make_memory(name: str, input_size: int, *, seed: int = 0, **settings: Any) -> Memory:
    torch.manual_seed(seed)
    return MEMORIES[name](input_size, **known({**SMALL, **settings}, MEMORIES[name]))


def make_agent(
    env: TrialEnv,
    memory: str = "gru",
    *,
    num_layers: int = 1,
    inputs: Iterable[str] = INPUTS,
    hidden_sizes: Iterable[int] = (),
    seed: int = 0,
    gain: float | None = None,
    **settings: Any,
) -> Agent:
    """An agent; `settings` are further settings of it.

    Its initial policy, which is nearly uniform, is sharpened by `gain`, so that mistakes show; but
    continuous actions are kept away from their bounds, where rounding errors would show, too.
    """
    torch.manual_seed(seed)
    sizes = known({**SMALL, "num_layers": num_layers}, MEMORIES[memory])
    spec = AgentSpec(
        observations_of(env.observation_spec_unbatched[keys.OBSERVATION]),
        actions_of(env.action_spec_unbatched),
        AgentSettings(list(inputs), list(hidden_sizes), list(hidden_sizes), **settings),
        MEMORIES[memory],
        vars(make_settings(MEMORIES[memory].Settings, sizes)),
    )
    agent = Agent(spec)
    if gain is None:
        gain = 100 if isinstance(spec.actions, Discrete) else 10
    with torch.no_grad():
        for parameter in agent.policy.parameters():
            parameter.mul_(gain)
    return agent


def agent_settings(learner: str) -> dict[str, Any]:
    """The settings of `make_agent` that a learner requires."""
    if issubclass(LEARNERS[learner], VariBAD):
        return {"belief": BeliefSettings("moments", size=3)}
    return {}


def ten_iterations(env: TrialEnv) -> CollectionPlan:
    """The plan of a short run without a curriculum, its lengths given in env steps."""
    length = env.max_steps
    collection = CollectionConfig(num_trials=1, total_env_steps=10 * length, window=None, burn_in=0)
    return CollectionPlan(collection, length, 1)


def make_learner(
    agent: Agent,
    env: TrialEnv,
    learner: str = "ppo",
    *,
    plan: CollectionPlan | None = None,
    critic: dict[str, Any] | None = None,
    **changes: Any,
) -> Any:
    """A learner for an agent; `critic` are its critic's settings."""
    torch.manual_seed(1)
    kind = LEARNERS[learner]
    settings = make_settings(
        kind.Settings, known({**SETTINGS, "critic": critic or {}}, kind) | changes
    )
    task = env.task_env.sample_tasks(1)[0].flatten_keys()
    return kind(
        agent,
        settings,
        plan=plan or ten_iterations(env),
        task_sizes={name: parameter.numel() for name, parameter in task.items()},
        **({"places": env.task_env.places} if kind.reads_places else {}),
    )


def run_shape(
    num_trials: int = 4, num_ranks: int = 1, precision: str = "32-true", **changes: Any
) -> RunShape:
    """A run that settings are checked against: of long trials, with the rewards that are drawn."""
    rest = {"trial_steps": 10, "continues": False, "expected_rewards": False, **changes}
    return RunShape({"collection.num_trials": num_trials}, num_ranks, precision, **rest)


def starts_of(env: TrialEnv, window: int | None = None, burn_in: int = 0) -> list[int]:
    """The steps before which states are stored."""
    return state_steps(env.max_steps, window or env.max_steps, burn_in)


def collect(
    env: TrialEnv, learner: Learner, *, window: int | None = None, burn_in: int = 0, seed: int = 1
) -> TensorDictBase:
    """One batch of trials `[B]`, collected like in the data module."""
    collector = TrialCollector(
        env,
        learner.agent,
        state_steps=starts_of(env, window, burn_in),
        num_extra_steps=int(env.continues),
        make_actor=learner.make_actor,
    )
    collector.seed(seed, seed + 1)
    return collector.rollout()


def as_minibatch(
    learner: Learner,
    env: TrialEnv,
    prepared: TensorDictBase,
    *,
    window: int | None = None,
    burn_in: int = 0,
) -> TensorDictBase:
    """All windows of prepared trials in one minibatch."""
    kept = [keys.TASK] if learner.reads_tasks else []
    return cut_windows(prepared, env.max_steps, window or env.max_steps, burn_in, kept)


def minibatch_of(
    learner: Learner, env: TrialEnv, *, window: int | None = None, burn_in: int = 0, seed: int = 1
) -> TensorDictBase:
    """Collect trials, prepare them, and cut them into the windows of one minibatch."""
    sizes = {"window": window, "burn_in": burn_in}
    trials = collect(env, learner, seed=seed, **sizes)
    prepared = learner.prepare(trials, starts_of(env, **sizes))
    return as_minibatch(learner, env, prepared, **sizes)


def whole_loss(learner: Learner, minibatch: TensorDictBase) -> Tensor:
    """The loss of all parameters: of a minibatch of windows, and of the trials just prepared."""
    if not isinstance(learner, VariBAD):
        return learner.window_loss(minibatch)
    belief = learner.beliefs_of(learner.played)
    return learner.window_loss(minibatch) + learner.belief_loss(
        belief, learner.played, every_prefix(belief)
    )


def every_prefix(belief: Belief) -> Draw:
    """All prefixes in order, with the same noise in each trial."""
    num, length, size = belief.mean.shape
    like_it = {"dtype": belief.mean.dtype, "device": belief.mean.device}
    noise = torch.linspace(-1, 1, length * size, **like_it).view(length, size)
    prefixes = torch.arange(length, device=belief.mean.device)
    return Draw(prefixes.expand(num, -1), noise.expand(num, -1, -1))


def gradients(learner: Learner, minibatch: TensorDictBase) -> dict[str, Tensor]:
    learner.zero_grad()
    whole_loss(learner, minibatch).backward()
    return {name: p.grad.clone() for name, p in learner.named_parameters()}


def poisoned(trials: TensorDictBase, state_steps: list[int]) -> TensorDictBase:
    """The trials with NaN in all masked steps and in all states before masked steps."""
    trials = trials.clone()
    mask = trials[keys.STEPS, keys.MASK]

    def poison(playing: Tensor) -> Callable[[Tensor], Tensor]:
        def fill(entry: Tensor) -> Tensor:
            if not entry.is_floating_point():
                return entry
            shape = (*playing.shape[:2], *[1] * (entry.ndim - 2))
            return entry.masked_fill(~playing.view(shape), torch.nan)

        return fill

    trials[keys.STEPS] = trials[keys.STEPS].apply(poison(mask))
    trials[keys.MEMORY_STATE] = trials[keys.MEMORY_STATE].apply(poison(mask[:, state_steps]))
    return trials


def compose_config(output_dir: Path, *overrides: str) -> DictConfig:
    """The composed config of `python train.py ...`."""
    register_schemas()
    with initialize_config_dir(str(ROOT / "configs"), version_base="1.3"):
        return compose("train", [f"output_dir={output_dir}", *overrides])


def attach(data: TrialDataModule, learner: Learner, *, rank: int = 0, iteration: int = 0) -> None:
    """Stand in for a trainer of two ranks."""
    learner.clock.iterations_done.fill_(iteration)
    data.trainer = SimpleNamespace(
        world_size=2,
        global_rank=rank,
        lightning_module=learner,
        precision_plugin=Precision(),
        strategy=SimpleNamespace(root_device=torch.device("cpu")),
    )
