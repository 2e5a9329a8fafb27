"""Build trials and agents, let agents play, and draw what they do."""

from collections.abc import Sequence
from contextlib import closing
from copy import deepcopy
from os import PathLike

import torch
from matplotlib.figure import Figure
from tensordict import TensorDict, TensorDictBase

from rl2_lightning import keys
from rl2_lightning.agents.agent import Agent
from rl2_lightning.build import build_agent, build_held_out, build_world
from rl2_lightning.data.actor import AgentActor
from rl2_lightning.data.windows import state_steps
from rl2_lightning.evaluation.pictures import pictures_of
from rl2_lightning.families import play as loop
from rl2_lightning.families.record import require_whole_episodes
from rl2_lightning.families.trial_env import TrialEnv
from rl2_lightning.notebook.composing import Folder, compose_config, require_same_spaces


def make_trials(
    experiment: str = "default",
    num_trials: int = 1,
    overrides: Sequence[str] = (),
    seed: int = 1,
    config_dir: Folder | None = None,
) -> TrialEnv:
    """Trials of an experiment's tasks, as a TorchRL environment.

    `trials.task_env` is the family: its tasks, episode by episode.

    Args:
        experiment: an experiment of `configs/experiment`.
        num_trials: B, number of trials that are played at once.
        overrides: fields, as on the command line: `["env=grid_navi", "env.size=7"]`.
        seed: seed of the tasks, and of everything else that is drawn.
        config_dir: folder of your own configuration, like `--config-dir`.

    Raises:
        UserError: a field is unknown or its value wrong.
    """
    given = [f"experiment={experiment}", *overrides]
    world = build_world(compose_config(given, config_dir=config_dir))
    trials = world.make_trials(num_trials, torch.device("cpu"))
    trials.set_seed(seed)
    return trials


def make_agent(
    experiment: str = "default", overrides: Sequence[str] = (), config_dir: Folder | None = None
) -> Agent:
    """An untrained agent of an experiment.

    Args:
        experiment: an experiment of `configs/experiment`.
        overrides: fields, as on the command line: `["memory=snail", "seed=3"]`.
        config_dir: folder of your own configuration, like `--config-dir`.

    Raises:
        UserError: a field is unknown or its value wrong.
    """
    cfg = compose_config([f"experiment={experiment}", *overrides], config_dir=config_dir)
    with closing(build_world(cfg)) as world:
        return build_agent(cfg, world)


def play(
    agent: Agent,
    trials: TrialEnv,
    *,
    greedy: bool = False,
    seed: int = 1,
    tasks: TensorDictBase | None = None,
    window: int | None = None,
    burn_in: int = 0,
) -> TensorDict:
    """Let an agent play one trial of each task.

    Args:
        agent: the agent, on the device of the trials.
        trials: B trials, of `make_trials`.
        greedy: whether to take the most likely actions instead of sampling.
        seed: seed of the actions.
        tasks: parameters of the tasks, `[B]`; None to draw some.
        window: length of a window in env steps, before which the memory's state is stored; None
            for the whole trial.
        burn_in: env steps before a window at which the state is stored instead.

    Returns:
        Trials, `[B]`, with the `steps`, `[B, T]`, and the parameters of each `task`. A step has
        what was shown before it, the action, and under `next` the reward and what ended; and the
        memory's output, `features`, `[B, T, H]`. docs/design.md lists the entries.
    """
    actor = AgentActor(
        agent,
        torch.Generator(next(agent.parameters()).device).manual_seed(seed),
        greedy=greedy,
        keeps_features=True,
    )
    kept = state_steps(trials.max_steps, window or trials.max_steps, burn_in)
    played = loop.play(actor, trials, tasks, state_steps=kept)
    require_whole_episodes(played[keys.STEPS], trials)
    return played


def pictures(
    agent: Agent | str | PathLike[str],
    experiment: str = "default",
    overrides: Sequence[str] = (),
    num_tasks: int = 500,
    config_dir: Folder | None = None,
) -> dict[str, Figure | bytes]:
    """Draw what an agent does in held-out tasks, as `python -m rl2_lightning.look` does.

    Args:
        agent: the agent, or the path of its checkpoint.
        experiment: experiment whose tasks are played, with its length of trials.
        overrides: fields of the tasks, as on the command line.
        num_tasks: number of tasks.
        config_dir: folder of your own configuration, like `--config-dir`.

    Returns:
        Those pictures that suit the family, by name: `adaptation_curve`, `regret`, `actions`,
        `memory`, `reactions`, `paths`, and `film`, the bytes of a GIF file. docs/looking.md
        explains them.

    Raises:
        UserError: a field is unknown or its value wrong, or the agent cannot play these tasks.
    """
    player = deepcopy(agent).cpu() if isinstance(agent, Agent) else Agent.load(agent)
    given = [f"experiment={experiment}", *overrides, f"evaluation.test_tasks={num_tasks}"]
    cfg = compose_config(given, config_dir=config_dir)
    with closing(build_world(cfg)) as world:
        require_same_spaces(player, build_agent(cfg, world))
        return dict(pictures_of(player, world, build_held_out(cfg, world)["test"]))
